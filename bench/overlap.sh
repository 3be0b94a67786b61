#!/usr/bin/env bash
# One change that 10,000 shapes have: how soon all their logs have it, and what it takes on disk.

. "$(dirname "$0")/common.sh"

SHAPES=${SHAPES:-10000}
SAMPLE=${SAMPLE:-100}
ROUNDS=${ROUNDS:-9}

bench_begin synchronous_commit=off
sql "CREATE TABLE items (id bigint PRIMARY KEY, a bigint NOT NULL, note text NOT NULL)"
shapes_fill "table=items&where=a%20%3C=%20987654321" "$SHAPES" 987654321 1
server_start

insert() { printf "INSERT INTO items VALUES (%d, 0, repeat('x', 100000))" "$1"; }

run() {
    "$BUILD/bench/bench_overlap" "$CONNINFO" "$ELECTRIC_PORT" 'table=items&where=a%20%3C=%20%d' \
        "$SHAPES" "$SAMPLE" "$(insert "$1")"
}

stored() { du -sb "$ELECTRIC_STORAGE_DIR" | cut -f 1; }

run 1 >/dev/null
before=$(stored)
ms=()
for i in $(seq "$ROUNDS"); do
    ms+=("$(run $((i + 1)))")
done
figure ms "$(median "${ms[@]}")" ms
# 1 when the message (100 kB) is stored once for all; the entries are a few bytes for each shape.
figure stored_messages "$(calc "($(stored) - $before) / $ROUNDS / 100000")" messages
