#!/usr/bin/env bash
# Reads through the gatekeeper over the same reads with the secret, alternating.

. "$(dirname "$0")/common.sh"

ROUNDS=${ROUNDS:-15}
SECONDS_EACH=${SECONDS_EACH:-1}
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

# load NAME HEADER PATH: adds to the arrays NAME_rates and NAME_cpu (microseconds for each).
declare -a open_rates guarded_rates open_cpu guarded_cpu ratios
load() {
    local -n rates=$1_rates cpu=$1_cpu
    local before rate
    before=$(cpu_s)
    rate=$(printf 'GET %s\n' "$3" |
        "$BUILD/bench/bench_load" "$ELECTRIC_PORT" "$CLIENTS" "$SECONDS_EACH" "$2")
    rates+=("$rate")
    cpu+=("$(calc "($(cpu_s) - $before) * 1000000 / ($rate * $SECONDS_EACH)")")
}

query='table=items&where=owner%20%3D%20%241&params%5B1%5D=me&offset=-1'
for _ in $(seq "$ROUNDS"); do
    load open "x-nothing: 1" "/v1/shape?$query&secret=$SECRET"
    load guarded "authorization: Bearer $shape" "/shape?offset=-1"
    ratios+=("$(calc "${guarded_rates[-1]} / ${open_rates[-1]}")")
done
figure open_per_s "$(median "${open_rates[@]}")" 1/s %.0f
figure guarded_per_s "$(median "${guarded_rates[@]}")" 1/s %.0f
figure guarded_vs_open "$(median "${ratios[@]}")" ratio
figure open_cpu_us "$(median "${open_cpu[@]}")" us
figure guarded_cpu_us "$(median "${guarded_cpu[@]}")" us
