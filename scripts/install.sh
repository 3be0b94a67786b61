#!/usr/bin/env bash
# install.sh run|test|lint|bench|fresh…: installs the Debian 12 packages of the profiles.
# With everything there it needs neither root nor network and does nothing. Services
# that come with a package (nginx, varnish, a Postgres "main" cluster) are not started.

. "$(dirname "$0")/common.sh"

# libc6-dev, libclang-rt-14-dev: only recommended by the compilers, and
# recommendations are not installed.
RUN=(gcc libc6-dev cmake ninja-build pkg-config libpq-dev libevent-dev libsqlite3-dev
    libxxhash-dev libjansson-dev librhonabwy-dev libgnutls28-dev
    libcurl4-openssl-dev libpg-query-dev libprotobuf-c-dev
    postgresql-15 ca-certificates)
TEST=("${RUN[@]}" g++ libcmocka-dev locales nginx varnish chromium openssl)
LINT=("${TEST[@]}" clang clang-tidy clang-format libclang-rt-14-dev cppcheck shellcheck)
BENCH=("${RUN[@]}" nginx curl)
FRESH=(debootstrap debian-archive-keyring git curl)

packages_of() {
    case $1 in
    run) printf '%s\n' "${RUN[@]}" ;;
    test) printf '%s\n' "${TEST[@]}" ;;
    lint) printf '%s\n' "${LINT[@]}" ;;
    bench) printf '%s\n' "${BENCH[@]}" ;;
    fresh) printf '%s\n' "${FRESH[@]}" ;;
    *) die "unknown profile '$1'; it is one of run, test, lint, bench, fresh" ;;
    esac
    # npm may well come from elsewhere, together with a Node that Debian's own npm
    # package conflicts with; any npm will do.
    if [ "$1" != fresh ] && ! command -v npm >/dev/null; then
        printf 'npm\n'
    fi
}

# Reads package names, prints those that are not installed.
missing_of() {
    local package
    sort -u | while read -r package; do
        # shellcheck disable=SC2016
        if [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" != installed ]; then
            printf '%s\n' "$package"
        fi
    done
}

# Runs as root. Debian starts what it installs unless a policy says no, and creates
# a Postgres cluster on port 5432 unless told otherwise; Coulomb makes its own.
install_as_root() {
    local policy=/usr/sbin/policy-rc.d cluster=/etc/postgresql-common/createcluster.conf
    if [ ! -e "$policy" ]; then
        trap 'rm -f /usr/sbin/policy-rc.d' EXIT
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
    fi
    if [ ! -e "$cluster" ]; then
        mkdir -p "$(dirname "$cluster")"
        printf '%s\n' '# No cluster on installation: Coulomb makes its own, elsewhere.' \
            'create_main_cluster = false' >"$cluster"
    fi
    export DEBIAN_FRONTEND=noninteractive UCF_FORCE_CONFFOLD=1
    apt-get update -q </dev/null ||
        say "apt-get update failed; trying with the package lists that are there"
    apt-get install -q -y --no-install-recommends -o Dpkg::Use-Pty=0 \
        -o Dpkg::Options::=--force-confold -o DPkg::Lock::Timeout=300 "$@" </dev/null
}

if [ "${1:-}" = --as-root ]; then
    shift
    install_as_root "$@"
    exit
fi

[ $# -gt 0 ] || die "usage: install.sh run|test|lint|fresh…"
wanted=$(for profile in "$@"; do packages_of "$profile" || exit; done)
[ "${COULOMB_NO_INSTALL:-}" != 1 ] || exit 0
command -v dpkg-query >/dev/null ||
    die "this is not a Debian system. Install the equivalents of these Debian 12 packages
yourself and set COULOMB_NO_INSTALL=1: ${wanted//$'\n'/ }"
mapfile -t missing < <(missing_of <<<"$wanted")
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" -eq 0 ]; then
    as_root=()
elif command -v sudo >/dev/null; then
    # sudo clears the environment; apt needs a proxy where there is one.
    as_root=(sudo env)
    for name in http_proxy https_proxy no_proxy; do
        [ -z "${!name:-}" ] || as_root+=("$name=${!name}")
    done
else
    die "packages are missing, and there is neither root nor sudo to install them.
As root: apt-get install --no-install-recommends ${missing[*]}"
fi

say "installing ${missing[*]}"
mkdir -p "$ROOT/build"
log=$ROOT/build/install.log
if ! "${as_root[@]}" "$ROOT/scripts/install.sh" --as-root "${missing[@]}" >"$log" 2>&1; then
    tail -n 40 "$log" >&2
    die "installing failed (the whole log: $log)"
fi
