#!/usr/bin/env bash
# Records the captures anew from a real Postgres: ./record.sh [directory of its programs]
#
# Each NAME.sql is run up to its line "-- record: PUBLICATION FOR …", then publication and slot
# are made, then the rest is run. NAME.hex gets one pgoutput message a line. LSNs, times, xids
# and OIDs differ each time; NAME.expected, which holds none of them, stays the same.

set -euo pipefail
cd "$(dirname "$0")"

bin=${1:-$(printf '%s\n' /usr/lib/postgresql/*/bin | sort -V | tail -1)}
dir=$(mktemp -d /tmp/coulomb-capture-XXXXXX)
as=()
if [ "$(id -u)" = 0 ]; then
    chown postgres "$dir"
    as=(setpriv --reuid postgres --regid postgres --clear-groups)
fi

finish() {
    "${as[@]}" "$bin/pg_ctl" -D "$dir/data" -m immediate stop >"$dir/stop.log" 2>&1 || true
    rm -rf "$dir"
}
trap finish EXIT

"${as[@]}" "$bin/initdb" -D "$dir/data" -U postgres -A trust -E UTF8 --locale=C --no-sync \
    >"$dir/initdb.log"
"${as[@]}" "$bin/pg_ctl" -D "$dir/data" -l "$dir/data/log" -w start >"$dir/start.log" \
    -o "-c listen_addresses= -c unix_socket_directories=$dir -c wal_level=logical -c fsync=off"

export PGOPTIONS="-c client_min_messages=warning"
sql() { psql -X -q -A -t -v ON_ERROR_STOP=1 -h "$dir" -U postgres -d "$1"; }

for file in *.sql; do
    name=${file%.sql}
    echo "CREATE DATABASE $name;" | sql postgres
    {
        sed '/^-- record: /,$d' "$file"
        sed -n 's/^-- record: \(.*\)$/CREATE PUBLICATION \1;/p' "$file"
    } | sql "$name" >"$dir/out"
    echo "SELECT pg_create_logical_replication_slot('$name', 'pgoutput');" | sql "$name" \
        >"$dir/out"
    sed '1,/^-- record: /d' "$file" | sql "$name" >"$dir/out"
    sql "$name" >"$name.hex" <<SQL
SET bytea_output = 'hex'; SET DateStyle = 'ISO, DMY'; SET TimeZone = 'UTC';
SET extra_float_digits = 1; SET IntervalStyle = 'iso_8601';
SELECT encode(data, 'hex') FROM pg_logical_slot_get_binary_changes('$name', NULL, NULL,
    'proto_version', '1', 'publication_names', 'capture', 'messages', 'true');
SELECT pg_drop_replication_slot('$name') \g /dev/null
SQL
    echo "$name: $(wc -l <"$name.hex") messages"
done
