#!/usr/bin/env bash
# make test: installs what is missing, builds, runs every test, and ends with
# "N passed, N failed". What went wrong is printed; all logs are in build/results.

. "$(dirname "$0")/common.sh"

build_dev() { cmake --preset dev && cmake --build --preset dev; }

js_packages() {
    local dir
    for dir in tests/js web/demo examples/write-patterns/web examples/qa; do
        scripts/npm-ci.sh "$dir" || return
    done
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
    js_suite js
else
    cat "$RESULTS/npm.log"
    printf 'FAILED  npm packages\n'
    count 0 1
fi
tally
