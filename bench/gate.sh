#!/usr/bin/env bash
# Reads through the gatekeeper over the same reads with the secret, alternating.

. "$(dirname "$0")/common.sh"

ROUNDS=${ROUNDS:-7}
SECONDS_EACH=${SECONDS_EACH:-3}
CLIENTS=${CLIENTS:-32}
SECRET=the-secret-of-the-bench
AUTH=an-auth-secret-of-at-least-32-bytes

bench_begin
unset ELECTRIC_INSECURE
psql -Xq <<'SQL'
CREATE TABLE items (id int PRIMARY KEY, owner text NOT NULL, v text NOT NULL);
INSERT INTO items SELECT i, 'me', repeat('x', 40) FROM generate_series(1, 20) i;
CREATE FUNCTION authorize(claims jsonb, request jsonb) RETURNS jsonb LANGUAGE sql STABLE AS
    $$ SELECT jsonb_build_object('table', 'items', 'where', 'owner = $1',
                                 'params', jsonb_build_array(claims ->> 'sub')) $$;
SQL
server_start ELECTRIC_SECRET=$SECRET COULOMB_AUTH_SECRET=$AUTH \
    COULOMB_SHAPE_SECRET=a-shape-secret-of-at-least-32-bytes COULOMB_GATE_FUNCTION=authorize \
    COULOMB_GATE_RATE=0

token=$("$BUILD/bench/bench_token" sign "$AUTH" me)
shape=$(curl -fsS -H "authorization: Bearer $token" -d '{"table":"items"}' \
    "http://127.0.0.1:$ELECTRIC_PORT/shapes/auth-token" | sed 's/.*"token":"\([^"]*\)".*/\1/')

# load HEADER PATH
load() {
    printf 'GET %s\n' "$2" |
        "$BUILD/bench/bench_load" "$ELECTRIC_PORT" "$CLIENTS" "$SECONDS_EACH" "$1"
}

guarded=()
open=()
query='table=items&where=owner%20%3D%20%241&params%5B1%5D=me&offset=-1'
for _ in $(seq "$ROUNDS"); do
    open+=("$(load "x-nothing: 1" "/v1/shape?$query&secret=$SECRET")")
    guarded+=("$(load "authorization: Bearer $shape" "/shape?offset=-1")")
done
figure open_per_s "$(median "${open[@]}")" 1/s %.0f
figure guarded_per_s "$(median "${guarded[@]}")" 1/s %.0f
figure guarded_vs_open "$(calc "$(median "${guarded[@]}") / $(median "${open[@]}")")" ratio
