#!/usr/bin/env bash
# make soak: the randomised oracle for thousands of rounds, a million rows under random
# where-clauses beside Postgres, the fault loops for every n, a transaction of millions of
# rows, and a write storm. ROUNDS says how many rounds, COMPARISONS how many rows of clauses under each
# collation, SEED repeats a run; without it each run has its own, which is printed. PARTS
# names some of the parts.

. "$(dirname "$0")/common.sh"

export ORACLE_ROUNDS=${ROUNDS:-2000}
export ORACLE_SEED=${SEED:-$((RANDOM * 32768 + RANDOM))}
export FAULTS=all FAULTS_SEED=$ORACLE_SEED
export LARGE_ROWS=${LARGE_ROWS:-5000000} LARGE_MIB=${LARGE_MIB:-200}
export JS_SECONDS=${SOAK_SECONDS:-86400}
export WHERE_COMPARISONS=${COMPARISONS:-1000000} WHERE_SEED=$ORACLE_SEED
export SQL_ROUNDS=${SQL_ROUNDS:-100} SQL_SEED=$ORACLE_SEED
export STORM_WRITES=${STORM_WRITES:-400} STORM_KILLS=${STORM_KILLS:-40}
PARTS=${PARTS:-oracle sql faults large storm}

# wanted NAME WORDS…: whether that part is asked for; the words say what it is.
wanted() {
    local name=$1
    shift
    case " $PARTS " in
        *" $name "*) say "$*" ;;
        *) return 1 ;;
    esac
}

# part NAME WORDS…: a part that is a folder of the JavaScript suite.
part() {
    wanted "$@" || return 0
    js_suite "soak-$1" "$1/"
}

scripts/install.sh test
scripts/npm-ci.sh tests/js
cmake --preset dev >/dev/null
cmake --build --preset dev >/dev/null || die "the build failed; make build shows why"

mkdir -p "$RESULTS"
part oracle "$ORACLE_ROUNDS rounds of the oracle with SEED=$ORACLE_SEED"
if wanted sql "$WHERE_COMPARISONS rows of random clauses under each collation, SEED=$WHERE_SEED"; then
    check "soak sql values" build/dev/tests/test_sql_postgres
    check "soak sql clauses" build/dev/tests/test_where_postgres
fi
part faults "a fault at every call that a scenario makes"
part large "one transaction of $LARGE_ROWS rows"
part storm "64 clients that write $STORM_WRITES times each, the server killed $STORM_KILLS times"
tally
