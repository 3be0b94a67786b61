#!/usr/bin/env bash
# matrix.sh [VERSION…]: the suite with real clients against Postgres 14 to 18. Debian's
# 15 is used as installed, the others come from npm (tests/matrix). MATRIX_ARGS are
# handed to the suite, for example MATRIX_ARGS='client' make matrix.

. "$(dirname "$0")/common.sh"

versions=("$@")
[ ${#versions[@]} -gt 0 ] || versions=(14 15 16 17 18)

scripts/install.sh test
scripts/npm-ci.sh tests/matrix
scripts/npm-ci.sh tests/js
scripts/npm-ci.sh web/demo
cmake --preset dev >/dev/null
cmake --build --preset dev >/dev/null || die "the build failed; make build shows why"

# The servers run as another user when this runs as root, so they need a folder that
# everybody can enter, which the checkout may not be in.
servers=$(mktemp -d)
trap 'rm -rf "$servers"' EXIT
chmod 755 "$servers"

# unpack VERSION: npm packages hold no symlinks; a list beside them names those wanted.
unpack() {
    local from=tests/matrix/node_modules/pg$1/native to=$servers/$1 source target
    cp -r "$from" "$to"
    chmod -R a+rX "$to"
    chmod 755 "$to"/bin/*
    while IFS=' ' read -r source target; do
        ln -sf "$(basename "$source")" "$to/${target#native/}"
    done < <(tr '}' '\n' <"$from/pg-symlinks.json" |
        sed -n 's/.*"source":"\([^"]*\)","target":"\([^"]*\)".*/\1 \2/p')
}

bin_of() {
    if [ "$1" = 15 ]; then
        printf '/usr/lib/postgresql/15/bin\n'
    else
        printf '%s\n' "$servers/$1/bin"
    fi
}

mkdir -p "$RESULTS"
for version in "${versions[@]}"; do
    [ "$version" = 15 ] || unpack "$version"
    say "Postgres $version"
    COULOMB_PG_BIN=$(bin_of "$version")
    export COULOMB_PG_BIN
    "$COULOMB_PG_BIN/postgres" --version
    # shellcheck disable=SC2086
    js_suite "matrix-$version" ${MATRIX_ARGS:-}
    printf 'after Postgres %s: %d passed, %d failed\n' "$version" "$PASSED" "$FAILED"
done
tally
