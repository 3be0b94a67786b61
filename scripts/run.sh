#!/usr/bin/env bash
# make run: from a clean clone to a running Postgres, server and demo page. What
# follows on the command line goes to `coulomb dev`.

. "$(dirname "$0")/common.sh"

scripts/install.sh run
scripts/npm-ci.sh web/demo &
npm=$!
say "building"
mkdir -p build
log=$ROOT/build/release.log
if ! { cmake --preset release && cmake --build --preset release; } >"$log" 2>&1; then
    kill "$npm" 2>/dev/null || true
    grep -aE 'error|Error|FAILED' "$log" >&2 || tail -n 40 "$log" >&2
    die "the build failed (the whole log: $log)"
fi
wait "$npm" || die "the demo's npm packages could not be installed"
exec build/release/coulomb dev "$@"
