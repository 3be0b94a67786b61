#!/usr/bin/env bash
# From START_REPLICATION until the last commit of a backlog is visible to an HTTP reader, over
# pg_recvlogical writing the same backlog to a file. Both begin at one LSN with the same options.

. "$(dirname "$0")/common.sh"

ROUNDS=${ROUNDS:-3}
INSERTED=${INSERTED:-1000000}
UPDATED=${UPDATED:-500000}
TXS=${TXS:-300000}

bench_begin synchronous_commit=off
sql "CREATE TABLE items (id int PRIMARY KEY, name text, quantity int, note text, at timestamptz)"
server_start
"$BUILD/bench/bench_follow" "$ELECTRIC_PORT" table=items >/dev/null
sleep 1
server_stop

# The slot as it was before the workload, and the storage with it.
rewind() {
    sql "SELECT pg_drop_replication_slot('$SLOT')" >/dev/null
    sql "SELECT pg_copy_logical_replication_slot('base', '$SLOT')" >/dev/null
    rm -rf "$ELECTRIC_STORAGE_DIR"
    cp -a "$WORK/storage.before" "$ELECTRIC_STORAGE_DIR"
}

# reference LSN: seconds of pg_recvlogical.
reference() {
    local start
    sql "SELECT pg_copy_logical_replication_slot('base', 'reference')" >/dev/null
    start=$(date +%s.%N)
    "$PG_BIN/pg_recvlogical" -d postgres -S reference --start --no-loop -f "$WORK/reference.out" \
        --endpos="$1" -o proto_version=1 -o publication_names="$PUBLICATION"
    calc "$(date +%s.%N) - $start"
    sql "SELECT pg_drop_replication_slot('reference')" >/dev/null
    rm -f "$WORK/reference.out"
}

# ours DECIMAL-LSN [ENV…]: seconds until visible, milliseconds from then until acknowledged, and
# CPU seconds of the server.
ours() {
    local lsn=$1 visible acknowledged
    shift
    rewind
    # bench_visible may ask before the backlog is through: health is not waited for.
    server_run "$@"
    until curl -fs -o /dev/null "http://127.0.0.1:$ELECTRIC_PORT/"; do sleep 0.01; done
    until grep -q 'event=replica.streaming' "$WORK/server.log"; do sleep 0.01; done
    { read -r visible; read -r acknowledged; } < <("$BUILD/bench/bench_visible" \
        "$ELECTRIC_PORT" table=items "$lsn" "$CONNINFO" "$SLOT")
    printf '%s %s %s\n' "$(calc "$visible - $(streaming_s)")" \
        "$(calc "($acknowledged - $visible) * 1000")" "$(cpu_s)"
    server_stop
}

# workload NAME ROWS COMMAND…: the ratio of rates.
workload() {
    local name=$1 rows=$2 lsn decimal t lag cpu refs=() cpus=() times=() lags=() slow=() slow_lags=()
    shift 2
    sql "SELECT pg_copy_logical_replication_slot('$SLOT', 'base')" >/dev/null
    rm -rf "$WORK/storage.before"
    cp -a "$ELECTRIC_STORAGE_DIR" "$WORK/storage.before"
    "$@"
    lsn=$(sql "SELECT pg_current_wal_insert_lsn()")
    # The last commit is the newest one: a marker row gives its LSN to wait for.
    decimal=$(last_commit "$lsn")
    sql "CHECKPOINT"
    for _ in $(seq "$ROUNDS"); do
        refs+=("$(reference "$lsn")")
        read -r t lag cpu < <(ours "$decimal")
        times+=("$t") lags+=("$lag") cpus+=("$cpu")
    done
    read -r t lag cpu < <(ours "$decimal" LD_PRELOAD="$BUILD/bench/libbench_slowsync.so" SLOWSYNC_US=5000)
    slow+=("$t") slow_lags+=("$lag")
    sql "SELECT pg_drop_replication_slot('base')" >/dev/null
    t=$(median "${times[@]}")
    figure "${name}_reference_s" "$(median "${refs[@]}")" s
    figure "${name}_s" "$t" s
    figure "${name}_per_s" "$(calc "$rows / $t")" /s %.0f
    figure "${name}_cpu_us" "$(calc "$(median "${cpus[@]}") * 1000000 / $rows")" us
    figure "${name}_ratio" "$(calc "$(median "${refs[@]}") / $t")" ratio
    figure "${name}_slow_disk_ratio" "$(calc "$(median "${refs[@]}") / $(median "${slow[@]}")")" ratio
    LAGS+=("${lags[@]}") SLOW_LAGS+=("${slow_lags[@]}")
}

# Writes one more row and prints the LSN that its commit is above: whoever shows it has shown all
# before.
last_commit() {
    sql "UPDATE items SET note = clock_timestamp()::text WHERE id = 1" >/dev/null
    sql "SELECT '$1'::pg_lsn - '0/0'"
}

insert_rows() {
    sql "INSERT INTO items SELECT i, 'name ' || i, i % 1000, repeat('x', 20), now()
         FROM generate_series(1, $INSERTED) i"
}

update_rows() { sql "UPDATE items SET quantity = quantity + 1 WHERE id <= $UPDATED"; }

single_rows() {
    printf '\\set id random(1, %d)\nUPDATE items SET quantity = quantity + 1 WHERE id = :id;\n' \
        "$INSERTED" >"$WORK/single.sql"
    "$PG_BIN/pgbench" -n -M prepared -c 4 -j 2 -t $((TXS / 4)) -f "$WORK/single.sql" >/dev/null 2>&1
}

LAGS=() SLOW_LAGS=()
workload insert "$INSERTED" insert_rows
workload update "$UPDATED" update_rows
workload txs "$TXS" single_rows
figure durable_lag_ms "$(median "${LAGS[@]}")" ms
figure durable_lag_slow_disk_ms "$(median "${SLOW_LAGS[@]}")" ms
