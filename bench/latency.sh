#!/usr/bin/env bash
# A commit to a parked long poll, over NOTIFY to a connection that listens.

. "$(dirname "$0")/common.sh"

N=${N:-1000}

bench_begin
sql "CREATE TABLE bench_latency (id int PRIMARY KEY, n int); INSERT INTO bench_latency VALUES (1, 0);
     CREATE TABLE bench_other (id int PRIMARY KEY, n int); INSERT INTO bench_other VALUES (1, 0)"
server_start
"$BUILD/bench/bench_follow" "$ELECTRIC_PORT" table=bench_latency >/dev/null
"$BUILD/bench/bench_latency" "$ELECTRIC_PORT" table=bench_latency "$CONNINFO" 100 >/dev/null
{ read -r _ http50 http99; read -r _ notify50 notify99; } < <("$BUILD/bench/bench_latency" \
    "$ELECTRIC_PORT" table=bench_latency "$CONNINFO" "$N")
figure p50_us "$http50" us %.1f
figure p99_us "$http99" us %.1f
figure notify_p50_us "$notify50" us %.1f
figure notify_p99_us "$notify99" us %.1f
figure p50_vs_notify "$(calc "$http50 / $notify50")" ratio
figure p99_vs_notify "$(calc "$http99 / $notify99")" ratio
