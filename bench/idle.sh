#!/usr/bin/env bash
# A server with a shape that nobody reads: its memory, and how soon it answers after its start.

. "$(dirname "$0")/common.sh"

ROUNDS=${ROUNDS:-7}

bench_begin
sql "CREATE TABLE items (id int PRIMARY KEY, name text);
     INSERT INTO items SELECT i, 'name ' || i FROM generate_series(1, 1000) i"
server_start
"$BUILD/bench/bench_follow" "$ELECTRIC_PORT" table=items >/dev/null
sleep 5
figure rss_mib "$(calc "$(status_kib VmRSS) / 1024")" MiB %.1f
figure anon_mib "$(calc "$(status_kib RssAnon) / 1024")" MiB %.1f
figure pss_mib "$(calc "$(status_kib Pss) / 1024")" MiB %.1f
server_stop

times=()
for _ in $(seq "$ROUNDS"); do
    read -r ms SERVER_PID < <("$BUILD/bench/bench_start" "$ELECTRIC_PORT" \
        '/v1/shape?table=items&offset=-1' "$BIN" serve 2>"$WORK/server.log")
    times+=("$ms")
    sleep 0.5
    kill -TERM "$SERVER_PID"
    while kill -0 "$SERVER_PID" 2>/dev/null; do sleep 0.02; done
    SERVER_PID=
done
figure start_ms "$(median "${times[@]}")" ms %.1f
