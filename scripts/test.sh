#!/usr/bin/env bash
# make test: installs what is missing, builds, runs every test, and ends with
# "N passed, N failed". What went wrong is printed; all logs are in build/results.

. "$(dirname "$0")/common.sh"

JS_SECONDS=1500

build_dev() { cmake --preset dev && cmake --build --preset dev; }

js_packages() { scripts/npm-ci.sh tests/js && scripts/npm-ci.sh web/demo; }

# number NAME: a top-level count of vitest's JSON report.
number() { sed -n "s/.*\"$1\":\([0-9][0-9]*\).*/\1/p" <<<"$json" | head -n 1; }

# The JavaScript suite: real clients and a real Postgres against the built binary.
js_suite() {
    local report=tests/js/.results.json status=0 json failed
    rm -f "$report"
    COULOMB_BIN=$ROOT/build/dev/coulomb timeout -k 30 "$JS_SECONDS" \
        tests/js/run.sh </dev/null 2>&1 | tee "$RESULTS/js.log" || status=$?
    if [ "$status" -eq 124 ] || [ "$status" -eq 137 ]; then
        printf 'FAILED  the JavaScript suite took longer than %d seconds\n' "$JS_SECONDS"
    fi
    if [ ! -f "$report" ]; then
        printf 'FAILED  the JavaScript suite left no report (status %d)\n' "$status"
        count 0 1
        return
    fi
    json=$(head -c 2000 "$report")
    failed=$(number numFailedTests)
    # A file that does not even load has no test to fail.
    if [ "$status" -ne 0 ] && [ "${failed:-0}" -eq 0 ]; then
        failed=1
        printf 'FAILED  the JavaScript suite ended with status %d\n' "$status"
    fi
    count "$(number numPassedTests)" "${failed:-1}" "$(number numPendingTests)"
}

scripts/install.sh test
rm -rf "$RESULTS"
mkdir -p "$RESULTS"

say "building; installing the tests' npm packages meanwhile"
js_packages >"$RESULTS/npm.log" 2>&1 &
npm=$!
check "layers" scripts/layers.sh
check "banned functions" scripts/banned.sh
check "lock files" scripts/locks.sh
before=$FAILED
check "build" build_dev
if [ "$FAILED" -gt "$before" ]; then
    wait "$npm" || true
    tally
    exit
fi

say "unit tests"
status=0
scripts/ctest.sh dev >"$RESULTS/unit.log" 2>&1 || status=$?
cat "$RESULTS/unit.log"
count_log "$RESULTS/unit.log" "$status"

if wait "$npm"; then
    say "JavaScript suite"
    js_suite
else
    cat "$RESULTS/npm.log"
    printf 'FAILED  npm packages\n'
    count 0 1
fi
tally
