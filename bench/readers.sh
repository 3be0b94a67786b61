#!/usr/bin/env bash
# 15,000 clients that wait: their memory, what waking one and all of them costs, how soon they are
# gone. readers.c does and measures it.

. "$(dirname "$0")/common.sh"

CLIENTS=${CLIENTS:-15000}
FILES=$((CLIENTS + 4000))

ulimit -n "$FILES" || die "$CLIENTS clients need $FILES open files; ulimit -Hn is $(ulimit -Hn)"
bench_begin
server_start ELECTRIC_LONG_POLL_TIMEOUT=900s \
    "ELECTRIC_MAX_CONCURRENT_REQUESTS={\"initial\":300,\"existing\":$((CLIENTS + 1000))}"
"$BUILD/bench/bench_readers" "$CONNINFO" "$ELECTRIC_PORT" "$SERVER_PID" "$CLIENTS"
