#!/usr/bin/env bash
# soak.sh [ROUNDS [SEEDS]]: the oracle for long: ROUNDS rounds (default 2000) for each of
# SEEDS random seeds (default 1). The first failing seed ends it and is printed.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
rounds=${1:-2000}
seeds=${2:-1}
for ((i = 0; i < seeds; i++)); do
    seed=${ORACLE_SEED:-$((RANDOM * 32768 + RANDOM))}
    echo "soak: seed $seed, $rounds rounds" >&2
    ORACLE_SEED=$seed ORACLE_ROUNDS=$rounds "$here/../run.sh" oracle/oracle
done
