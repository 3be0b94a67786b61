#!/usr/bin/env bash
# Shapes `a = n` on one table, from one to a million: what a change costs that hits one of them, what a
# shape takes of memory, how soon a reader has a backlog, how fast shapes are made.

. "$(dirname "$0")/common.sh"

SIZES=${SIZES:-1 100 10000 100000 1000000}
CHANGES=${CHANGES:-200000}
ROUNDS=${ROUNDS:-3}
BACKLOG=${BACKLOG:-1000000}
CREATED=${CREATED:-20000}
MARK=987654321 # the model's n; no row has it but those that end a wait

bench_begin synchronous_commit=off max_connections=200
sql "CREATE TABLE items (id bigint PRIMARY KEY, a bigint NOT NULL, note text NOT NULL)"
sql "ALTER TABLE items REPLICA IDENTITY FULL"
MODEL_QUERY="table=items&where=a%20=%20$MARK"
NEXT_ID=1

# write COUNT SHAPES: so many rows in transactions of a thousand, each for one of the shapes.
write() {
    psql -Xq >/dev/null <<SQL
DO \$\$BEGIN
    FOR i IN 0..($1 / 1000 - 1) LOOP
        INSERT INTO items SELECT $NEXT_ID + i * 1000 + g, 1 + (g + i * 1000::bigint) * 7919 % $2, 'a note'
        FROM generate_series(0, 999) g;
        COMMIT;
    END LOOP;
END\$\$;
SQL
    NEXT_ID=$((NEXT_ID + $1))
}

mark_visible() {
    sql "INSERT INTO items VALUES ($NEXT_ID, $MARK, 'the last')"
    NEXT_ID=$((NEXT_ID + 1))
}

declare -A AT RSS
for size in $SIZES; do
    shapes_fill "$MODEL_QUERY" "$size" "$MARK" 1
    begin=$(date +%s.%N)
    server_start
    restored=$(calc "$(date +%s.%N) - $begin")
    sleep 1
    RSS[$size]=$(status_kib VmRSS)
    write 20000 "$size" # what is made once for each shape that has changes
    US=()
    for _ in $(seq "$ROUNDS"); do
        cpu_us_per_change "$MODEL_QUERY" "$CHANGES" write "$CHANGES" "$size"
    done
    AT[$size]=$(median "${US[@]}")
    figure "us_at_$size" "${AT[$size]}" us
    figure "restored_s_at_$size" "$restored" s
    figure "rss_mib_at_$size" "$(calc "${RSS[$size]} / 1024")" MiB %.1f
    figure "rss_mib_after_changes_at_$size" "$(calc "$(status_kib VmRSS) / 1024")" MiB %.1f
    server_stop
done
largest=${SIZES##* }
[ -z "${AT[1000000]:-}" ] || figure us_at_1m "${AT[1000000]}" us
[ -z "${AT[10000]:-}" ] || figure flatness "$(calc "${AT[$largest]} / ${AT[10000]}")" ratio
figure bytes_per_shape "$(calc "(${RSS[$largest]} - ${RSS[${SIZES%% *}]}) * 1024 / $largest")" bytes %.0f

# A backlog, with 10,000 shapes.
shapes_fill "$MODEL_QUERY" 10000 "$MARK" 1
write "$BACKLOG" 10000
lsn=$(decimal "$(sql "SELECT pg_current_wal_insert_lsn()")")
mark_visible
sql CHECKPOINT
server_run
until grep -q 'event=replica.streaming' "$WORK/server.log"; do sleep 0.01; done
visible=$("$BUILD/bench/bench_visible" "$ELECTRIC_PORT" "$MODEL_QUERY" "$lsn" "$CONNINFO" "$SLOT" | sed -n 1p)
figure rows_per_s "$(calc "$BACKLOG / ($visible - $(streaming_s))")" /s %.0f
server_stop

# Shapes made over HTTP, on an empty result.
sql "TRUNCATE items"
shapes_fill "$MODEL_QUERY" 0
server_start
took=$("$BUILD/bench/bench_create" "$ELECTRIC_PORT" 'table=items&where=a%20=%20%d' "$CREATED" 64)
figure shapes_created_per_s "$(calc "$CREATED / $took")" /s %.0f
server_stop
