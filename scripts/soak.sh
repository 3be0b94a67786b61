#!/usr/bin/env bash
# make soak: the randomised oracle for thousands of rounds. ROUNDS says how many, SEED
# repeats a run; without it each run has its own, which is printed.

. "$(dirname "$0")/common.sh"

export ORACLE_ROUNDS=${ROUNDS:-2000}
export ORACLE_SEED=${SEED:-$((RANDOM * 32768 + RANDOM))}
export JS_SECONDS=${SOAK_SECONDS:-86400}

scripts/install.sh test
scripts/npm-ci.sh tests/js
cmake --preset dev >/dev/null
cmake --build --preset dev >/dev/null || die "the build failed; make build shows why"

mkdir -p "$RESULTS"
say "$ORACLE_ROUNDS rounds of the oracle with SEED=$ORACLE_SEED"
js_suite soak oracle
tally
