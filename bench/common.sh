# shellcheck shell=bash
# Sourced by the benches: builds, a private Postgres, the server, figures. Everything lives in one
# temporary folder and ends with the script.

. "$(dirname "${BASH_SOURCE[0]}")/../scripts/common.sh"

BUILD=$ROOT/build/release
BIN=$BUILD/coulomb
PG_BIN=${PG_BIN:-/usr/lib/postgresql/15/bin}
WORK=
SERVER_PID=
STREAM=bench
export SLOT=electric_slot_$STREAM PUBLICATION=electric_publication_$STREAM

# figure NAME VALUE UNIT [FORMAT]
figure() { printf "%s.%s ${4:-%.3f} %s\n" "$BENCH" "$1" "$2" "$3"; }

# calc EXPRESSION: with awk.
calc() { awk "BEGIN { printf \"%.6f\", $1 }"; }

# median VALUE…
median() { printf '%s\n' "$@" | sort -g | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }

as_postgres() {
    if [ "$(id -u)" -eq 0 ]; then
        setpriv --reuid=postgres --regid=postgres --clear-groups -- "$@"
    else
        "$@"
    fi
}

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])' 2>/dev/null ||
        perl -MIO::Socket::INET -e 'print IO::Socket::INET->new(Listen => 1, LocalAddr => "127.0.0.1")->sockport'
}

bench_build() {
    scripts/install.sh bench
    cmake --preset release -DCOULOMB_BENCH=ON >/dev/null
    cmake --build --preset release >/dev/null || die "the build failed; make build shows why"
}

bench_clean() {
    local status=$?
    trap - EXIT
    server_stop || true
    if [ -n "$WORK" ] && [ -f "$WORK/data/postmaster.pid" ]; then
        as_postgres "$PG_BIN/pg_ctl" -D "$WORK/data" -m immediate stop >/dev/null 2>&1 || true
    fi
    [ -z "$WORK" ] || rm -rf "$WORK"
    exit "$status"
}

# bench_begin [SETTING…]: builds, starts Postgres (with the settings), sets PGHOST and friends.
bench_begin() {
    local setting options=()
    BENCH=$(basename "$0" .sh)
    trap bench_clean EXIT
    trap 'exit 130' INT TERM
    bench_build
    WORK=$(mktemp -d "${TMPDIR:-/tmp}/coulomb-bench-XXXXXX")
    chmod 755 "$WORK"
    mkdir "$WORK/data" "$WORK/sockets"
    [ "$(id -u)" -ne 0 ] || chown postgres "$WORK/data" "$WORK/sockets"
    as_postgres "$PG_BIN/initdb" -D "$WORK/data" -A trust -U postgres >/dev/null
    export PGHOST=127.0.0.1 PGUSER=postgres PGDATABASE=postgres PGPORT
    PGPORT=$(free_port)
    for setting in wal_level=logical max_wal_size=8GB shared_buffers=512MB \
        checkpoint_timeout=1h autovacuum=off "$@"; do
        options+=(-c "$setting")
    done
    as_postgres "$PG_BIN/pg_ctl" -D "$WORK/data" -w -l "$WORK/data/log" start -o \
        "-p $PGPORT -c listen_addresses=127.0.0.1 -c unix_socket_directories=$WORK/sockets ${options[*]}" \
        >/dev/null
    export CONNINFO="host=127.0.0.1 port=$PGPORT user=postgres dbname=postgres"
    export DATABASE_URL="postgresql://postgres@127.0.0.1:$PGPORT/postgres"
    export ELECTRIC_INSECURE=true ELECTRIC_STORAGE_DIR=$WORK/storage
    export ELECTRIC_REPLICATION_STREAM_ID=$STREAM COULOMB_LISTEN=127.0.0.1
    ELECTRIC_PORT=$(free_port)
    export ELECTRIC_PORT
}

sql() { psql -XAtqc "$1"; }

# server_run [ENV…]: starts it in the background.
server_run() {
    env "$@" "$BIN" serve >"$WORK/server.log" 2>&1 &
    SERVER_PID=$!
}

# server_start [ENV…]: waits until the service is active.
# shellcheck disable=SC2120
server_start() {
    server_run "$@"
    for _ in $(seq 6000); do # a million shapes are restored first
        if curl -fs "http://127.0.0.1:$ELECTRIC_PORT/v1/health" 2>/dev/null | grep -q '"active"'; then
            return
        fi
        kill -0 "$SERVER_PID" 2>/dev/null || break
        sleep 0.05
    done
    cat "$WORK/server.log" >&2
    die "the server did not become active"
}

server_stop() {
    [ -n "$SERVER_PID" ] || return 0
    kill -TERM "$SERVER_PID" 2>/dev/null || true
    wait "$SERVER_PID" 2>/dev/null || true
    SERVER_PID=
}

# status_kib FIELD: of /proc/<server>/status or smaps_rollup.
status_kib() { grep -h "^$1:" "/proc/$SERVER_PID/status" "/proc/$SERVER_PID/smaps_rollup" | awk '{ print $2; exit }'; }

# cpu_s: CPU seconds of the server so far.
cpu_s() {
    awk -v hz="$(getconf CLK_TCK)" '{ print ($14 + $15) / hz }' "/proc/$SERVER_PID/stat"
}

# decimal LSN
decimal() { sql "SELECT '$1'::pg_lsn - '0/0'"; }

# shapes_fill QUERY COUNT MARK STEP[+MORE] …: a new storage and slot with the shape of the query, and
# so many copies of it (fill.c) beside it. The server is stopped.
shapes_fill() {
    local model query=$1
    shift
    rm -rf "$ELECTRIC_STORAGE_DIR"
    sql "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = '$SLOT'"
    server_start
    model=$(curl -fsD - -o /dev/null "http://127.0.0.1:$ELECTRIC_PORT/v1/shape?offset=-1&$query" |
        tr -d '\r' | awk 'tolower($1) == "electric-handle:" { print $2 }')
    "$BUILD/bench/bench_follow" "$ELECTRIC_PORT" "$query" >/dev/null
    sleep 1
    server_stop
    [ "$1" -eq 0 ] || "$BUILD/bench/bench_fill" "$ELECTRIC_STORAGE_DIR" "$model" "$@"
}

# cpu_us_per_change QUERY CHANGES COMMAND…: adds to the array US the CPU of the running server for
# each of so many changes that the command writes; mark_visible's, which the shape of the query has,
# ends the wait.
cpu_us_per_change() {
    local query=$1 changes=$2 before lsn
    shift 2
    before=$(cpu_s)
    "$@"
    lsn=$(decimal "$(sql "SELECT pg_current_wal_insert_lsn()")")
    mark_visible
    "$BUILD/bench/bench_visible" "$ELECTRIC_PORT" "$query" "$lsn" "$CONNINFO" "$SLOT" >/dev/null
    US+=("$(calc "($(cpu_s) - $before) * 1000000 / $changes")")
}

# The server's log line that tells when the stream begins, in seconds.
streaming_s() {
    local ts
    ts=$(grep -m 1 'event=replica.streaming' "$WORK/server.log" | sed 's/^ts=\([^ ]*\).*/\1/')
    date -d "$ts" +%s.%N
}
