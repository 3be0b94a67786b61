#!/usr/bin/env bash
# smoke.sh [own]: what a newcomer does after cloning. Starts `make run`, waits for the demo
# page and the server it prints, deletes a row in psql and sees that arrive in a waiting
# live request, sends SIGTERM and expects an end in time. Needs bash, no HTTP client.
# With "own" the data are in a temporary folder, and not where `coulomb dev` keeps a
# person's.

. "$(dirname "$0")/common.sh"

START_SECONDS=${START_SECONDS:-900} # a first run installs packages and builds
STOP_SECONDS=10

work=$(mktemp -d)
log=$work/run.log
run=
args=
if [ "${1:-}" = own ]; then
    chmod 755 "$work" # as root, Postgres runs as another user
    args="--data-dir $work/data"
fi

finish() {
    if [ -n "$run" ] && kill -0 "$run" 2>/dev/null; then
        kill -TERM "$run" 2>/dev/null || true
        for _ in $(seq 50); do
            kill -0 "$run" 2>/dev/null || break
            sleep 0.1
        done
        kill -KILL -- "-$run" 2>/dev/null || true
    fi
    rm -rf "$work"
}
trap finish EXIT

# http URL: status line, headers and body, as HTTP/1.0 (so never chunked).
http() {
    local rest=${1#http://} host path
    host=${rest%%/*}
    path=/${rest#"$host"}
    path=/${path##/}
    exec 3<>"/dev/tcp/${host%:*}/${host##*:}" || return 1
    printf 'GET %s HTTP/1.0\r\nHost: %s\r\nConnection: close\r\n\r\n' "$path" "$host" >&3
    timeout 60 tr -d '\r' <&3
    exec 3<&- 3>&-
}

ok() { http "$1" 2>/dev/null | head -n 1 | grep -q ' 200 '; }

header() { sed -n "s/^$1: //Ip;/^\$/q" "$2" | head -n 1; }

# until_true SECONDS COMMAND…
until_true() {
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        [ "$SECONDS" -lt "$end" ] || return 1
        if [ -n "$run" ] && ! kill -0 "$run" 2>/dev/null; then return 1; fi
        sleep 0.5
    done
}

step() {
    local name=$1
    shift
    if "$@"; then
        count 1 0
        printf 'ok      %s\n' "$name"
    else
        printf 'FAILED  %s\n' "$name"
        printf -- '--- output of make run\n'
        tail -n 60 "$log"
        count 0 1
        tally
        exit 1
    fi
}

# The addresses that make run printed: the server is the one with a health endpoint,
# the demo the first other page (or the server's own root).
urls() {
    grep -aoE 'http://[A-Za-z0-9.]+:[0-9]+[A-Za-z0-9_./-]*' "$log" | sed 's/\.$//' | awk '!seen[$0]++'
}

find_server() {
    local url
    server=
    for url in $(urls | sed -E 's,(http://[^/]+).*,\1,' | awk '!seen[$0]++'); do
        if ok "$url/v1/health"; then
            server=$url
            return 0
        fi
    done
    return 1
}

find_demo() {
    local url
    for url in $(urls); do
        case $url in */v1/*) continue ;; esac
        if http "$url" 2>/dev/null | grep -qi '<!doctype html'; then
            demo=$url
            return 0
        fi
    done
    return 1
}

find_psql() {
    psql=$(grep -aoE "psql +['\"]?(postgres(ql)?://|-h|-U|host=)[^|]*" "$log" | head -n 1 |
        sed -E "s/ +-c .*//; s/[[:space:]]+\$//")
    [ -n "$psql" ]
}

sql() { bash -c "$psql -X -q -A -t -v ON_ERROR_STOP=1" <<<"$1"; }

find_table() {
    table=$(sql "SELECT quote_ident(c.relname) FROM pg_class c
        WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace
        AND NOT EXISTS (SELECT FROM pg_constraint f WHERE f.contype = 'f' AND f.confrelid = c.oid)
        ORDER BY c.relname LIMIT 1")
    [ -n "$table" ] && [ "$(sql "SELECT count(*) > 0 FROM $table")" = t ]
}

# Follows the shape from the start until it is up to date.
catch_up() {
    local offset=-1 handle=
    for _ in $(seq 100); do
        http "$server/v1/shape?table=$table&offset=$offset${handle:+&handle=$handle}" \
            >"$work/shape" || return 1
        head -n 1 "$work/shape" | grep -q ' 200 ' || return 1
        handle=$(header electric-handle "$work/shape")
        offset=$(header electric-offset "$work/shape")
        if grep -qi '^electric-up-to-date' "$work/shape"; then
            position="offset=$offset&handle=$handle"
            return 0
        fi
    done
    return 1
}

live_delete() {
    http "$server/v1/shape?table=$table&$position&live=true" >"$work/live" &
    local waiting=$!
    sleep 1
    # And put back, for whoever does this often.
    sql "BEGIN;
        CREATE TEMP TABLE one AS SELECT * FROM $table WHERE ctid = (SELECT min(ctid) FROM $table);
        DELETE FROM $table WHERE ctid = (SELECT min(ctid) FROM $table);
        COMMIT;
        INSERT INTO $table OVERRIDING SYSTEM VALUE SELECT * FROM one" || return 1
    until_true 15 gone "$waiting" || return 1
    grep -q '"operation":"delete"' "$work/live" || { cat "$work/live"; return 1; }
}

gone() { ! kill -0 "$1" 2>/dev/null; }

stop() {
    kill -TERM "$run"
    for _ in $(seq $((STOP_SECONDS * 10))); do
        if gone "$run"; then return 0; fi
        sleep 0.1
    done
    return 1
}

silent() { ! ok "$server/v1/health"; }

say "make run"
set -m # a process group of its own
make run ARGS="$args" >"$log" 2>&1 </dev/null &
run=$!
set +m
server=
demo=
psql=
table=
position=
step "make run starts a server" until_true "$START_SECONDS" find_server
step "the demo page answers" until_true 30 find_demo
step "it prints how to reach the database" until_true 10 find_psql
step "the demo schema has rows" until_true 30 find_table
step "a shape is served up to date" until_true 30 catch_up
step "a change made in psql arrives in a live request" live_delete
cat "$log"
step "SIGTERM ends it within $STOP_SECONDS s" stop
step "nothing answers any more" silent
printf 'the demo was at %s, the server at %s\n' "$demo" "$server"
tally
