# SPDX-License-Identifier: BSD-3-Clause
# Sourced by ./check and ./demo: installs what is missing, and only that. With everything there it asks no network.
# need DEBIAN-PACKAGE...    (their Homebrew names are worked out below)

say() { printf '%s\n' "$*" >&2; }

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"
    elif command -v sudo >/dev/null; then sudo "$@"
    else say "This needs root, and there is no sudo. Run as root: $*"; return 1
    fi
}

apt() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends "$@" >>build/packages.txt 2>&1
}

need_apt() {
    missing=
    for p in "$@"; do
        case $(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null) in
            installed) ;;
            *) missing="$missing $p" ;;
        esac
    done
    [ -z "$missing" ] && return
    say "Installing:$missing"
    mkdir -p build
    # The lists may be old or absent; a first try without fetching them saves time where they are fresh.
    apt install $missing || { apt update && apt install $missing; } || { tail -n 20 build/packages.txt >&2; return 1; }
}

need_brew() {
    missing=
    for p in "$@"; do
        case $p in
            gcc | clang | libclang-rt-* | libc6-dev | libedit-dev | python3-venv) continue ;; # Apple's own; Homebrew's python has venv
            libjansson-dev) p=jansson ;;
            libpcre2-dev) p=pcre2 ;;
            libutf8proc-dev) p=utf8proc ;;
            libcmocka-dev) p=cmocka ;;
            uthash-dev) p=uthash ;;
            libxxhash-dev) p=xxhash ;;
            ninja-build) p=ninja ;;
            pkg-config) p=pkgconf ;;
        esac
        brew list --formula "$p" >/dev/null 2>&1 || missing="$missing $p"
    done
    [ -z "$missing" ] || { say "Installing:$missing"; brew install $missing >&2; }
}

need() {
    if command -v dpkg-query >/dev/null; then need_apt "$@"
    elif command -v brew >/dev/null; then need_brew "$@"
    else say "Neither apt-get nor Homebrew is here; going on with what is installed. Wanted: $*"
    fi
}

BUILD_PACKAGES="gcc libc6-dev meson ninja-build pkg-config libjansson-dev libpcre2-dev libutf8proc-dev uthash-dev libxxhash-dev libedit-dev"
TEST_PACKAGES="libcmocka-dev"
