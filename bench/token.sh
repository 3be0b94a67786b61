#!/usr/bin/env bash
# Token exchanges per second, by a function and by a policy; verifications per second on one core.

. "$(dirname "$0")/common.sh"

SECONDS_EACH=${SECONDS_EACH:-5}
CLIENTS=${CLIENTS:-32}
AUTH=an-auth-secret-of-at-least-32-bytes

bench_begin
unset ELECTRIC_INSECURE
psql -Xq <<'SQL'
CREATE TABLE items (id int PRIMARY KEY, owner text NOT NULL);
CREATE FUNCTION authorize(claims jsonb, request jsonb) RETURNS jsonb LANGUAGE sql STABLE AS
    $$ SELECT jsonb_build_object('table', 'items', 'where', 'owner = $1',
                                 'params', jsonb_build_array(claims ->> 'sub')) $$;
SQL
printf '{"tables":{"items":{"where":"owner = $1","params":["claims.sub"],"row_security":"ignore"}}}' \
    >"$WORK/policy.json"

# exchanges NAME SETTING: starts the server with it.
exchanges() {
    server_start ELECTRIC_SECRET=the-secret-of-the-bench COULOMB_AUTH_SECRET=$AUTH \
        COULOMB_SHAPE_SECRET=a-shape-secret-of-at-least-32-bytes COULOMB_GATE_RATE=0 "$2"
    figure "$1" "$(printf 'POST /shapes/auth-token\n\n{"table":"items"}\n' |
        "$BUILD/bench/bench_load" "$ELECTRIC_PORT" "$CLIENTS" "$SECONDS_EACH" \
            "authorization: Bearer $("$BUILD/bench/bench_token" sign "$AUTH" me)")" 1/s %.0f
    server_stop
}

exchanges exchanges_per_s COULOMB_GATE_FUNCTION=authorize
exchanges policy_exchanges_per_s "COULOMB_GATE_POLICY_FILE=$WORK/policy.json"
while read -r name rate; do
    figure "verify_${name}_per_s" "$rate" 1/s %.0f
done < <("$BUILD/bench/bench_token" verify)
