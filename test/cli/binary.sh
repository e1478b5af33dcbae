#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# The program itself, as the linker left it: what it can be made to do is limited by what it holds.
# The second argument says whether it was built with the hardening flags (yes or no; sanitizers do without some).
. "$(dirname "$0")/lib.sh"
hard=$2

check() { # NAME CONDITION...
    name=$1
    shift
    : >stderr.txt
    if "$@"; then verdict "$name" ""; else verdict "$name" "not so: $*"; fi
}
lacks() { # FILE PATTERN
    ! grep -E -m 3 "$2" "$1" | sed 's/^/# /' | grep .
}
holds() {
    grep -E -q "$2" "$1"
}

if ! command -v readelf >/dev/null || ! readelf -h "$exe" >head.txt 2>/dev/null; then
    skip "the program's sections" "no readelf, or no ELF file"
    finish
fi
readelf -lW "$exe" >segments.txt
readelf -dW "$exe" >dynamic.txt
readelf --dyn-syms -W "$exe" | awk '$7 == "UND" { sub("@.*", "", $8); print $8 }' >asks.txt
check "asks for functions at all" holds asks.txt '^malloc$'
check "no network function" lacks asks.txt '^(socket|socketpair|connect|bind|listen|accept4?|send(to|msg|mmsg)?|recv(from|msg|mmsg)?|getaddrinfo|gethostby.*|getnameinfo|inet_.*|res_.*)$'
check "no function that starts programs" lacks asks.txt '^(exec.*|fexecve|v?fork|system|popen|posix_spawnp?|wordexp)$'
check "no function that loads code" lacks asks.txt '^(dlopen|dlmopen|dlsym)$'
check "none of those that know no bounds" lacks asks.txt '^(gets|strcpy|strcat|sprintf|vsprintf|scanf|mktemp|tmpnam|tempnam)$'
check "no executable stack" holds segments.txt 'GNU_STACK.* RW '
check "nothing both writable and executable" lacks segments.txt 'LOAD.* RWE '
check "no relocations in code" lacks dynamic.txt TEXTREL
check "no path to libraries" lacks dynamic.txt 'R(UN)?PATH'
if [ "$hard" = yes ]; then
    check "position independent" holds head.txt 'Type: *DYN'
    check "read-only after relocation" holds segments.txt GNU_RELRO
    check "bound at start" holds dynamic.txt 'BIND_NOW|FLAGS.*NOW'
    check "guards its stack" holds asks.txt '^__stack_chk_fail$'
    check "checks what the C library is handed" holds asks.txt '_chk$'
else
    skip "hardening" "this build does without"
fi
finish
