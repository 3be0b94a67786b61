#!/usr/bin/env bash
# Single-row transactions over HTTP, over those of pgbench that runs the identical statements, pipelined,
# over as many connections; and how soon a write is back in the stream.

. "$(dirname "$0")/common.sh"

ROUNDS=${ROUNDS:-5}
SECONDS_EACH=${SECONDS_EACH:-5}
CLIENTS=${CLIENTS:-64}
CONNECTIONS=${CONNECTIONS:-4}
N=${N:-1000}
SECRET=the-secret-of-the-bench
AUTH=an-auth-secret-of-at-least-32-bytes

bench_begin
unset ELECTRIC_INSECURE
psql -Xq <<'SQL'
CREATE TABLE items (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v text NOT NULL);
CREATE ROLE writer NOLOGIN;
GRANT ALL ON items TO writer;
SQL
server_start ELECTRIC_SECRET=$SECRET COULOMB_AUTH_SECRET=$AUTH \
    COULOMB_SHAPE_SECRET=a-shape-secret-of-at-least-32-bytes COULOMB_WRITE_ROLES=writer \
    COULOMB_GATE_RATE=0 COULOMB_WRITE_POOL_SIZE="$CONNECTIONS"
token=$("$BUILD/bench/bench_token" sign "$AUTH" me)

# What the server sends for each (src/server/write), and the same claims.
claims=$(cut -d. -f2 <<<"$token" | tr '_-' '/+' | base64 -d 2>/dev/null || true)
cat >"$WORK/write.pgbench" <<SQL
\\set n random(1, 9000000000000000)
\\startpipeline
INSERT INTO coulomb.applied (subject, id, request) VALUES ('me', :n::text, '\\\\x0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef') RETURNING txid::xid;
SELECT set_config('role', 'writer', true), set_config('request.jwt.claims', '$claims', true), set_config('statement_timeout', '10000', true);
INSERT INTO "public"."items" ("v") VALUES ('x');
\\endpipeline
SQL

write_http() {
    printf 'POST /v1/transactions\n\n%s\n' \
        '{"id":"#","mutations":[{"op":"insert","table":"items","values":{"v":"x"}}]}' |
        "$BUILD/bench/bench_load" "$ELECTRIC_PORT" "$CLIENTS" "$SECONDS_EACH" \
            "authorization: Bearer $token"
}

write_pgbench() {
    pgbench -n -M extended -c "$CONNECTIONS" -j 2 -T "$SECONDS_EACH" -f "$WORK/write.pgbench" \
        2>/dev/null | awk '/^tps/ { print $3 }'
}

write_http >/dev/null # makes the schema
ours=()
theirs=()
for _ in $(seq "$ROUNDS"); do
    ours+=("$(write_http)")
    theirs+=("$(write_pgbench)")
done
figure per_s "$(median "${ours[@]}")" 1/s %.0f
figure pgbench_per_s "$(median "${theirs[@]}")" 1/s %.0f
figure vs_pgbench "$(calc "$(median "${ours[@]}") / $(median "${theirs[@]}")")" ratio

read -r p50 p99 < <("$BUILD/bench/bench_roundtrip" "$ELECTRIC_PORT" items "$SECRET" "$token" "$N")
figure roundtrip_p50_ms "$p50" ms
figure roundtrip_p99_ms "$p99" ms
