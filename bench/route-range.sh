#!/usr/bin/env bash
# Range shapes (`a >= 10 n AND a < 10 n + 25`), from a thousand to 100,000: CPU for each change, which
# two or three of them have.

. "$(dirname "$0")/common.sh"

SIZES=${SIZES:-1000 10000 100000}
CHANGES=${CHANGES:-200000}
ROUNDS=${ROUNDS:-3}

bench_begin synchronous_commit=off
sql "CREATE TABLE items (id bigint PRIMARY KEY, a bigint NOT NULL, note text NOT NULL)"
MODEL_QUERY="table=items&where=a%20%3E=%20987654321%20AND%20a%20%3C%20987654322"
NEXT_ID=1

# write COUNT SHAPES
write() {
    psql -Xq >/dev/null <<SQL
DO \$\$BEGIN
    FOR i IN 0..($1 / 1000 - 1) LOOP
        INSERT INTO items SELECT $NEXT_ID + i * 1000 + g, 25 + (g + i * 1000::bigint) * 7919 % (10 * $2), 'a note'
        FROM generate_series(0, 999) g;
        COMMIT;
    END LOOP;
END\$\$;
SQL
    NEXT_ID=$((NEXT_ID + $1))
}

mark_visible() {
    sql "INSERT INTO items VALUES ($NEXT_ID, 987654321, 'the last')"
    NEXT_ID=$((NEXT_ID + 1))
}

declare -A AT
for size in $SIZES; do
    shapes_fill "$MODEL_QUERY" "$size" 987654321 10 987654322 10+25
    server_start
    write 20000 "$size" # what is made once for each shape that has changes
    US=()
    for _ in $(seq "$ROUNDS"); do
        cpu_us_per_change "$MODEL_QUERY" "$CHANGES" write "$CHANGES" "$size"
    done
    AT[$size]=$(median "${US[@]}")
    figure "us_at_$size" "${AT[$size]}" us
    server_stop
done
figure flatness "$(calc "${AT[${SIZES##* }]} / ${AT[${SIZES%% *}]}")" ratio
