# shellcheck shell=bash
# Sourced by examples/run.sh.

# The database signs people in: it has to know what tokens are signed with.
setup_sql() { printf "INSERT INTO app.signing (secret) VALUES ('%s');\n" "$COULOMB_AUTH_SECRET"; }

app_settings() {
    export COULOMB_WRITE_ROLES=app_user COULOMB_ANONYMOUS_ROLE=app_anon
    export COULOMB_GATE_FUNCTION=app.authorize_shape
}

app_programs() {
    program worker "$(dirname "$COULOMB_BIN")/examples/qa/qa-worker"
}
