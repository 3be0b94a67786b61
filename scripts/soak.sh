#!/usr/bin/env bash
# make soak: the randomised oracle for thousands of rounds, the fault loops for every n,
# and a transaction of millions of rows. ROUNDS says how many rounds, SEED repeats a run;
# without it each run has its own, which is printed. PARTS names some of the parts.

. "$(dirname "$0")/common.sh"

export ORACLE_ROUNDS=${ROUNDS:-2000}
export ORACLE_SEED=${SEED:-$((RANDOM * 32768 + RANDOM))}
export FAULTS=all FAULTS_SEED=$ORACLE_SEED
export LARGE_ROWS=${LARGE_ROWS:-5000000} LARGE_MIB=${LARGE_MIB:-200}
export JS_SECONDS=${SOAK_SECONDS:-86400}
PARTS=${PARTS:-oracle faults large}

# part NAME WORDS…: one part, unless others are asked for; the words say what it is.
part() {
    local name=$1
    shift
    case " $PARTS " in
        *" $name "*) say "$*" ;;
        *) return 0 ;;
    esac
    js_suite "soak-$name" "$name/"
}

scripts/install.sh test
scripts/npm-ci.sh tests/js
cmake --preset dev >/dev/null
cmake --build --preset dev >/dev/null || die "the build failed; make build shows why"

mkdir -p "$RESULTS"
part oracle "$ORACLE_ROUNDS rounds of the oracle with SEED=$ORACLE_SEED"
part faults "a fault at every call that a scenario makes"
part large "one transaction of $LARGE_ROWS rows"
tally
