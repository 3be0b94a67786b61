# shellcheck shell=bash
# Sourced by every script: the project's root as working directory, messages, and
# the tally. Every script that tests something ends with one line
# "N passed, N failed" (", N skipped" when some were), and others add those up.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
ROOT=$PWD
RESULTS=$ROOT/build/results
export LC_ALL=C.UTF-8

PASSED=0
FAILED=0
SKIPPED=0

say() { printf '==> %s\n' "$*" >&2; }

die() {
    printf '%s: %s\n' "$(basename "$0")" "$*" >&2
    exit 1
}

# count PASSED FAILED [SKIPPED]: add to the tally.
count() {
    PASSED=$((PASSED + ${1:-0}))
    FAILED=$((FAILED + ${2:-0}))
    SKIPPED=$((SKIPPED + ${3:-0}))
}

# count_log FILE STATUS: add the closing line of a finished part. A part that failed
# without a failure in its own count, or that counted nothing, is one failure.
count_log() {
    local line p=0 f=0 s=0
    line=$(grep -aE '^[0-9]+ passed, [0-9]+ failed(, [0-9]+ skipped)?$' "$1" | tail -n 1 || true)
    if [ -n "$line" ]; then
        read -r p f s < <(printf '%s\n' "$line" | awk '{ print $1 + 0, $3 + 0, $5 + 0 }')
    fi
    if [ "$f" -eq 0 ] && { [ "$2" -ne 0 ] || [ $((p + s)) -eq 0 ]; }; then
        f=1
    fi
    count "$p" "$f" "$s"
}

# check NAME COMMAND…: one check, silent when it passes, its output when it fails.
check() {
    local name=$1 log
    shift
    mkdir -p "$RESULTS"
    log=$RESULTS/${name// /-}.log
    if "$@" >"$log" 2>&1; then
        count 1 0
        printf 'ok      %s\n' "$name"
    else
        count 0 1
        cat "$log"
        printf 'FAILED  %s\n' "$name"
    fi
}

# The closing line; the status says whether all went well. Nothing at all is a failure.
tally() {
    if [ "$SKIPPED" -gt 0 ]; then
        printf '%d passed, %d failed, %d skipped\n' "$PASSED" "$FAILED" "$SKIPPED"
    else
        printf '%d passed, %d failed\n' "$PASSED" "$FAILED"
    fi
    [ "$FAILED" -eq 0 ] && [ "$PASSED" -gt 0 ]
}

# project_files PATTERN: the project's own files of that name, found without git, since
# a checkout may belong to another user than the one who tests it.
project_files() {
    find . \( -name .git -o -name node_modules -o -path ./build \) -prune -o \
        -type f -name "$1" -print | sed 's,^\./,,' | sort
}

# js_suite LOG-NAME [ARGUMENT…]: the JavaScript suite (real clients and a real Postgres
# against the built binary) into the tally. Arguments go to tests/js/run.sh.
js_suite() {
    local log=$RESULTS/$1.log status=0 seconds=${JS_SECONDS:-1500}
    shift
    COULOMB_BIN=$ROOT/build/dev/coulomb timeout -k 30 "$seconds" \
        tests/js/run.sh "$@" </dev/null 2>&1 | tee "$log" || status=$?
    if [ "$status" -eq 124 ] || [ "$status" -eq 137 ]; then
        printf 'FAILED  the JavaScript suite took longer than %d seconds\n' "$seconds"
    fi
    count_log "$log" "$status"
}
