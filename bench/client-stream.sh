#!/usr/bin/env bash
# A million rows of five columns, warm, read by libcoulomb's stream into typed values, beside a client
# that only takes the bytes.

. "$(dirname "$0")/common.sh"

ROUNDS=${ROUNDS:-5}
ROWS=${ROWS:-1000000}

bench_begin
sql "CREATE TABLE items (id int PRIMARY KEY, name text, quantity int, note text, at timestamptz);
     INSERT INTO items SELECT i, 'name ' || i, i % 1000, repeat('x', 20), now() FROM generate_series(1, $ROWS) i"
sql "VACUUM (FREEZE, ANALYZE) items"
server_start

wall=() cpu=() raw=()
for round in $(seq 0 "$ROUNDS"); do
    read -r t_raw _ < <("$BUILD/bench/bench_follow" "$ELECTRIC_PORT" table=items)
    read -r t_wall t_cpu count < <("$BUILD/bench/bench_stream" "$ELECTRIC_PORT" items 2>/dev/null)
    # The rows, the snapshot's end and the up-to-date.
    [ "$count" -eq $((ROWS + 2)) ] || die "the stream told $count messages of $ROWS rows"
    [ "$round" -eq 0 ] && continue
    raw+=("$t_raw") wall+=("$t_wall") cpu+=("$t_cpu")
done

figure wall_s "$(median "${wall[@]}")" s
figure raw_s "$(median "${raw[@]}")" s
figure cpu_s "$(median "${cpu[@]}")" s
figure rows_per_cpu_s "$(calc "$ROWS / $(median "${cpu[@]}")")" rows/s %.0f
