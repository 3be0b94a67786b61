# shellcheck shell=bash
# Sourced by examples/run.sh.
setup_sql() { :; }

app_settings() {
    export COULOMB_WRITE_ROLES=web_anon COULOMB_ANONYMOUS_ROLE=web_anon
}

app_programs() { :; }
