#!/usr/bin/env bash
# 10,000 shapes that no index helps to find (`ILIKE '%…%'`): evaluations in a second of CPU.

. "$(dirname "$0")/common.sh"

SHAPES=${SHAPES:-10000}
CHANGES=${CHANGES:-5000}
ROUNDS=${ROUNDS:-3}

bench_begin synchronous_commit=off
sql "CREATE TABLE items (id bigint PRIMARY KEY, note text NOT NULL)"
MODEL_QUERY="table=items&where=note%20ILIKE%20'%25x987654321x%25'"
shapes_fill "$MODEL_QUERY" "$SHAPES" 987654321 1
NEXT_ID=1

write() {
    sql "INSERT INTO items SELECT $NEXT_ID + g, 'A note of forty characters, number ' || g
         FROM generate_series(0, $1 - 1) g"
    NEXT_ID=$((NEXT_ID + $1))
}

mark_visible() {
    sql "INSERT INTO items VALUES ($NEXT_ID, 'x987654321x')"
    NEXT_ID=$((NEXT_ID + 1))
}

server_start
US=()
for _ in $(seq "$ROUNDS"); do
    cpu_us_per_change "$MODEL_QUERY" "$CHANGES" write "$CHANGES"
done
figure evals_per_s "$(calc "$SHAPES / $(median "${US[@]}") * 1000000")" /s %.0f
