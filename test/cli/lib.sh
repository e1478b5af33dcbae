# SPDX-License-Identifier: BSD-3-Clause
# Sourced by the tests of the command line: a scratch folder, and checks that print TAP.
# The test's first argument is the program.
set -u
case $1 in
    /*) exe=$1 ;;
    *) exe=$PWD/$1 ;;
esac
here=$(cd "$(dirname "$0")" && pwd)
data=$here/data
tiny=$here/../../models/tiny/tiny.gguf
smollm=$here/../../build/models/SmolLM2-135M-Instruct.Q4_1.gguf
work=$(mktemp -d)
trap 'cd /; rm -rf "$work"' EXIT
cd "$work" || exit 1
count=0 bad=0

# verdict NAME REASON: passed when there is no reason against it.
verdict() {
    count=$((count + 1))
    if [ -z "$2" ]; then
        echo "ok $count - $1"
    else
        bad=1
        echo "not ok $count - $1"
        printf '%s\n' "$2" | sed 's/^/# /'
        sed 's/^/# stderr: /' stderr.txt | head -5
    fi
}

skip() {
    count=$((count + 1))
    echo "ok $count - $1 # SKIP $2"
}

finish() {
    echo "1..$count"
    exit $bad
}

# run COMMAND...: its output and exit code are kept.
run() {
    "$exe" "$@" >stdout.txt 2>stderr.txt </dev/null
    code=$?
}

# stopped_by COMMAND...: what ended it, when Ctrl-C was pressed once it had begun to speak (shells let their background
# jobs ignore that, and these theirs).
stopped_by() {
    python3 - "$exe" "$@" <<'PY'
import signal, subprocess, sys
p = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                     preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
p.stdout.read(20)
p.send_signal(signal.SIGINT)
p.stdout.read()
code = p.wait()
print(signal.Signals(-code).name if code < 0 else code)
PY
}

# locked COMMAND...: whether it is under a seccomp filter (2) when it has begun to speak.
locked() {
    python3 - "$exe" "$@" <<'PY'
import re, subprocess, sys
p = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
if not p.stdout.read(20): sys.exit("said nothing")
print(re.search(r"Seccomp:\s*(\d)", open(f"/proc/{p.pid}/status").read())[1])
p.kill()
PY
}

leftovers() {
    ls -A | grep -E '^out\.pte|\.tmp-' || true
}

# fails NAME CODE WORDS COMMAND...: exits with CODE; standard error is one line that begins "anemone: " and holds WORDS (a
# pattern); nothing on standard output; neither out.pte nor a temporary file is left.
fails() {
    name=$1 want=$2 words=$3
    shift 3
    rm -f out.pte*
    run "$@"
    why=
    [ $code = "$want" ] || why="exit code $code, not $want. "
    [ "$(wc -l <stderr.txt)" -eq 1 ] || why="${why}not one line on standard error. "
    head -n 1 stderr.txt | grep -q '^anemone: ' || why="${why}does not begin 'anemone: '. "
    grep -q -e "$words" stderr.txt || why="${why}does not say '$words'. "
    [ ! -s stdout.txt ] || why="${why}wrote to standard output. "
    [ -z "$(leftovers)" ] || why="${why}left $(leftovers)"
    verdict "$name" "$why"
}

# succeeds NAME COMMAND...
succeeds() {
    name=$1
    shift
    run "$@"
    why=
    [ $code = 0 ] || why="exit code $code"
    verdict "$name" "$why"
}

# says NAME TEXT: the last command's standard output.
says() {
    why=
    [ "$(cat stdout.txt)" = "$2" ] || why="printed: $(cat stdout.txt)"
    verdict "$1" "$why"
}
