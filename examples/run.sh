#!/usr/bin/env bash
# examples/run.sh APP [--data-dir DIR] [--port N] [--page-port N] [--api-url URL]: an example on a
# Postgres of its own, from a clean clone to a page in the browser. APP is a folder of examples: qa, or
# write-patterns/web. Ctrl-C stops all of it; the data stay. A program that is killed is started
# again after three seconds: kill them, and see what the page does.
#
# An app's folder has schema.sql, routes.json, app.sh (its settings and further programs), its
# locked packages and build.sh.

app=${1:-}
# shellcheck source=scripts/common.sh
. "$(dirname "$0")/../scripts/common.sh"
[ -f "examples/$app/app.sh" ] || die "usage: examples/run.sh APP; APP is qa or write-patterns/web"
shift
app_dir=$ROOT/examples/$app
name=${app//\//-}
data_dir=
port=
page_port=
api_url=
while [ $# -gt 0 ]; do
    case $1 in
    --data-dir) data_dir=${2:?--data-dir needs a folder} ;;
    --port) port=${2:?--port needs a number} ;;
    --page-port) page_port=${2:?--page-port needs a number} ;;
    --api-url) api_url=${2:?--api-url needs the URL of the proxy in front of the server} ;;
    *) die "unknown argument '$1'; there are --data-dir, --port, --page-port and --api-url" ;;
    esac
    shift 2
done

# --- What is missing ---

scripts/install.sh run
scripts/npm-ci.sh "examples/$app"
if [ -z "${COULOMB_BIN:-}" ]; then
    say "building"
    mkdir -p build
    log=$ROOT/build/release.log
    if ! { cmake --preset release && cmake --build --preset release; } >"$log" 2>&1; then
        tail -n 40 "$log" >&2
        die "the build failed (the whole log: $log)"
    fi
    COULOMB_BIN=$ROOT/build/release/coulomb
fi
"$app_dir/build.sh"

# --- Who, where ---

# Postgres refuses to run as root.
as_owner=()
if [ "$(id -u)" -eq 0 ]; then
    as_owner=(runuser -u postgres --)
    : "${data_dir:=/var/lib/coulomb/examples/$name}"
else
    : "${data_dir:=${XDG_DATA_HOME:-$HOME/.local/share}/coulomb/examples/$name}"
fi
bin=$(for dir in /usr/lib/postgresql/*/bin; do echo "$dir"; done | sort -V | tail -n 1)
[ -x "$bin/initdb" ] || die "no Postgres below /usr/lib/postgresql: install postgresql-15"
mkdir -p "$data_dir"
data_dir=$(cd "$data_dir" && pwd)
[ ${#data_dir} -le 80 ] || die "--data-dir: the path is too long for a socket in it"
[ ${#as_owner[@]} -eq 0 ] || chown postgres: "$data_dir"
chmod 700 "$data_dir"
exec 9>"$data_dir/lock"
flock -n 9 || die "$data_dir is in use by another run"

secret() { od -An -tx1 -N32 /dev/urandom | tr -d ' \n'; }
if [ ! -f "$data_dir/secrets" ]; then
    (umask 077; for what in PGPASSWORD ELECTRIC_SECRET COULOMB_AUTH_SECRET COULOMB_SHAPE_SECRET; do
        printf 'export %s=%s\n' "$what" "$(secret)"
    done >"$data_dir/secrets.new")
    mv "$data_dir/secrets.new" "$data_dir/secrets"
fi
# shellcheck source=/dev/null
. "$data_dir/secrets"

# free_port FIRST: the first port of 127.0.0.1 on which nobody listens.
free_port() {
    local at=$1
    while (: <"/dev/tcp/127.0.0.1/$at") 2>/dev/null; do
        at=$((at + 1))
    done
    echo "$at"
}
: "${port:=$(free_port 3000)}"
: "${page_port:=$(free_port 5173)}"

# --- Running ---

# shellcheck source=/dev/null
. "$app_dir/app.sh"

RESTART_S=3
declare -A name_of=() # by process id: what runs
declare -A command_of started_at
exec 8<> <(:) # esbuild serves until the end of its input, which this pipe never has
# program NAME COMMAND [ARG…]: starts it; NAME.log has what it says, NAME.pid its process id.
program() {
    local name=$1
    shift
    command_of[$name]=${*@Q}
    started_at[$name]=$SECONDS
    "$@" <&8 >>"$name.log" 2>&1 9>&- &
    name_of[$!]=$name
    echo $! >"$name.pid"
}
# shellcheck disable=SC2317  # called by the trap
stop() {
    local pid
    trap '' INT TERM # a second Ctrl-C must not leave half of it running
    for pid in "${!name_of[@]}"; do
        kill "$pid" 2>/dev/null || true
    done
    for pid in "${!name_of[@]}"; do
        wait "$pid" 2>/dev/null || true
    done
    rm -f "$data_dir"/*.pid
    "${as_owner[@]}" "$bin/pg_ctl" -D "$data_dir/data" -m fast -w stop >/dev/null 2>&1 9>&- || true
}
# failed NAME: it ended, and would do so again.
failed() {
    tail -n 5 "$data_dir/$1.log" >&2
    die "the $1 has ended (the whole log: $data_dir/$1.log)"
}
trap stop EXIT
trap 'exit 0' INT TERM

cd "$data_dir" || exit # the owner of the cluster may not enter the checkout
if [ ! -d data ]; then
    say "making a Postgres cluster in $data_dir"
    rm -rf data.new
    (umask 077; echo "$PGPASSWORD" >password)
    [ ${#as_owner[@]} -eq 0 ] || chown postgres: password
    "${as_owner[@]}" "$bin/initdb" -D data.new -U postgres -A scram-sha-256 -E UTF8 \
        --locale=C.UTF-8 --pwfile=password >initdb.log 2>&1 || die "initdb failed: see $data_dir/initdb.log"
    "${as_owner[@]}" mv data.new data
fi
# One that outlived its run, which was killed.
"${as_owner[@]}" "$bin/pg_ctl" -D data -m fast -w stop >/dev/null 2>&1 9>&- || true
# On a socket only, in a folder that nobody else can enter.
"${as_owner[@]}" "$bin/pg_ctl" -D data -l "$data_dir/postgres.log" -w -s start 9>&- \
    -o "-c listen_addresses='' -c unix_socket_directories='$data_dir' -c wal_level=logical" ||
    die "Postgres does not start: see $data_dir/postgres.log"
export PGHOST=$data_dir PGUSER=postgres PGOPTIONS='-c client_min_messages=warning'
query() { "$bin/psql" -X -q -v ON_ERROR_STOP=1 "$@"; }
if [ -z "$(query -d postgres -At -c "SELECT 1 FROM pg_database WHERE datname = 'app'")" ]; then
    query -d postgres -c 'DROP DATABASE IF EXISTS app_new' -c 'CREATE DATABASE app_new'
    { cat "$app_dir/schema.sql" && setup_sql; } | query -d app_new -1
    query -d postgres -c 'ALTER DATABASE app_new RENAME TO app'
fi

export DATABASE_URL="postgresql://postgres:$PGPASSWORD@/app?host=$data_dir"
export ELECTRIC_STORAGE_DIR=$data_dir/shapes ELECTRIC_PORT=$port COULOMB_LISTEN=127.0.0.1
export COULOMB_ROUTES_FILE=$app_dir/routes.json
app_settings
rm -f server.log worker.log page.log
program server "$COULOMB_BIN" serve
server=$(cat server.pid)
app_programs
for _ in $(seq 300); do
    kill -0 "$server" 2>/dev/null || failed server
    ! grep -q 'event=replica.streaming' server.log || break
    sleep 0.1
done
# With --port 0 the server has chosen.
port=$(sed -n 's/.*event=http.listening .*port=\([0-9]*\).*/\1/p' server.log | tail -n 1)
export ELECTRIC_PORT=$port
printf 'window.API_URL = "%s"\n' "${api_url:-http://127.0.0.1:$port}" >"$app_dir/dist/config.js"
program page "$app_dir/node_modules/@esbuild/linux-x64/bin/esbuild" --servedir="$app_dir/dist" \
    --serve="127.0.0.1:$page_port" --log-level=error

cat <<END

  The page:    http://127.0.0.1:$page_port/
  The server:  http://127.0.0.1:$port
  The tables:  PGPASSWORD=$PGPASSWORD psql -h '$data_dir' -U postgres app
  The logs:    $(cd "$data_dir" && printf '%s ' "$data_dir"/*.log)

To see what the page does without the server:

  kill -9 \$(cat '$data_dir/server.pid')      (it is started again after $RESTART_S seconds)

Ctrl-C stops all of it. The data stay in $data_dir; remove that to begin anew.

END
while sleep 1; do
    for pid in "${!name_of[@]}"; do
        ! kill -0 "$pid" 2>/dev/null || continue
        name=${name_of[$pid]}
        unset "name_of[$pid]"
        if [ $((SECONDS - started_at[$name])) -le "$RESTART_S" ]; then
            failed "$name"
        fi
        say "the $name has ended; it is started again in $RESTART_S seconds"
        sleep "$RESTART_S"
        eval "program $name ${command_of[$name]}"
        say "the $name is started again"
    done
done
