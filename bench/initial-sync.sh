#!/usr/bin/env bash
# A million rows of five columns to one HTTP client: cold, over COPY; warm, over nginx.

. "$(dirname "$0")/common.sh"

ROUNDS=${ROUNDS:-5}
ROWS=${ROWS:-1000000}

bench_begin
sql "CREATE TABLE items (id int PRIMARY KEY, name text, quantity int, note text, at timestamptz);
     INSERT INTO items SELECT i, 'name ' || i, i % 1000, repeat('x', 20), now() FROM generate_series(1, $ROWS) i"
sql "VACUUM (FREEZE, ANALYZE) items"

follow() { "$BUILD/bench/bench_follow" "$@"; }

copy=() cold=() warm=() plain=()
server_start ELECTRIC_ENABLE_INTEGRATION_TESTING=true
mkdir "$WORK/bodies"

# The first of each warms caches and is not counted.
for round in $(seq 0 "$ROUNDS"); do
    start=$(date +%s.%N)
    psql -XAtqc 'COPY items TO STDOUT' >/dev/null
    t_copy=$(calc "$(date +%s.%N) - $start")
    curl -fs -o /dev/null -X DELETE "http://127.0.0.1:$ELECTRIC_PORT/v1/shape?table=items" || true
    read -r t_cold bytes < <(follow "$ELECTRIC_PORT" table=items)
    [ "$round" -eq 0 ] && continue
    copy+=("$t_copy") cold+=("$t_cold")
done

follow "$ELECTRIC_PORT" table=items "$WORK/bodies" >/dev/null
count=$(find "$WORK/bodies" -type f | wc -l)
port=$(free_port)
cat >"$WORK/nginx.conf" <<CONF
worker_processes 1;
pid $WORK/nginx.pid;
error_log $WORK/nginx.err;
events { worker_connections 64; }
http {
    access_log off;
    sendfile on;
    tcp_nopush on;
    client_body_temp_path $WORK/n1; proxy_temp_path $WORK/n2; fastcgi_temp_path $WORK/n3;
    uwsgi_temp_path $WORK/n4; scgi_temp_path $WORK/n5;
    server { listen 127.0.0.1:$port; root $WORK/bodies; default_type application/json; }
}
CONF
chmod -R a+rX "$WORK/bodies"
"$(command -v nginx || echo /usr/sbin/nginx)" -c "$WORK/nginx.conf" -e "$WORK/nginx.err"
for round in $(seq 0 $((ROUNDS * 2))); do
    read -r t_warm bytes < <(follow "$ELECTRIC_PORT" table=items)
    read -r t_plain plain_bytes < <(follow "$port" --files "$count")
    [ "$bytes" = "$plain_bytes" ] || say "bodies differ in length: $bytes and $plain_bytes"
    [ "$round" -eq 0 ] && continue
    warm+=("$t_warm") plain+=("$t_plain")
done
kill "$(cat "$WORK/nginx.pid")"

figure copy_s "$(median "${copy[@]}")" s
figure cold_s "$(median "${cold[@]}")" s
figure cold_vs_copy "$(calc "$(median "${cold[@]}") / $(median "${copy[@]}")")" ratio
figure bytes "$bytes" bytes %.0f
figure warm_s "$(median "${warm[@]}")" s
figure nginx_s "$(median "${plain[@]}")" s
figure warm_vs_nginx "$(calc "$(median "${plain[@]}") / $(median "${warm[@]}")")" ratio
figure peak_rss_mib "$(calc "$(status_kib VmHWM) / 1024")" MiB %.1f
