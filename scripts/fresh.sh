#!/usr/bin/env bash
# fresh.sh [root|user]…: make test and make run in a just-installed Debian 12, as root
# in /root and as a plain user with sudo. The system is made by debootstrap in a
# temporary folder, from this machine's own package sources; mounts and processes live
# in namespaces of their own and vanish with them. What is tested is the last commit.
#
# FRESH_KEEP=1 keeps the folder. The log is build/fresh.log.

. "$(dirname "$0")/common.sh"

if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || die "needs root, for debootstrap and chroot"
    exec sudo "$ROOT/scripts/fresh.sh" "$@"
fi
[ $# -gt 0 ] || set -- root user
for who in "$@"; do
    case $who in
    root | user) ;;
    *) die "unknown '$who'; it is root or user" ;;
    esac
done

scripts/install.sh fresh
mkdir -p build
log=$ROOT/build/fresh.log
: >"$log"
work=$(mktemp -d /var/tmp/coulomb-fresh.XXXXXX)
chmod 755 "$work"

running= # the unshare of what runs in its own namespaces

finish() {
    if [ -n "$running" ]; then
        kill -KILL "$running" # and with it everything in its process namespace
        wait "$running" || true
    fi
    if [ "${FRESH_KEEP:-}" = 1 ]; then
        say "kept: $work"
    else
        rm -rf --one-file-system "$work"
    fi
}
trap finish EXIT

# apart COMMAND…: with mounts and processes of its own, which end with this script.
apart() {
    local status=0
    unshare --mount --pid --fork --kill-child --propagation private "$@" </dev/null &
    running=$!
    wait "$running" || status=$?
    running=
    return "$status"
}

# Debian's own sources of this machine, as "URI suite component codename".
sources() {
    apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT) $(CODENAME)' \
        'Created-By: Packages' 'Origin: Debian' | sort -u
}

make_base() {
    local base=$work/base mirror ca proxy
    mirror=$(sources | awk '$2 == "bookworm" && $3 == "main" { print $1; exit }')
    [ -n "$mirror" ] || die "this machine has no package source of Debian 12 (bookworm)"
    proxy=$(apt-config dump Acquire::http::Proxy | sed -n 's/.*"\(.*\)";/\1/p')
    [ -z "$proxy" ] || export http_proxy=$proxy
    say "debootstrap"
    apart debootstrap --variant=minbase bookworm "$base" "$mirror" >>"$log" 2>&1 ||
        die "debootstrap failed (the whole log: $log)"

    sources | awk '{ print "deb " $1 " " $2 " " $3 }' >"$base/etc/apt/sources.list"
    apt-config dump | grep -E '^Acquire::(http|https)::(Proxy|Timeout)|^Acquire::Retries' \
        >"$base/etc/apt/apt.conf.d/90host" || true
    cp -L /etc/resolv.conf /etc/hosts "$base/etc/"
    # A machine behind its own certificate authority trusts it in here as well.
    ca=/etc/ssl/certs/ca-certificates.crt
    [ ! -f "$ca" ] || cp -L "$ca" "$base/etc/host-ca.crt"

    # What whoever clones the project has: git and make; sudo as a plain user.
    inside "$base" 'export DEBIAN_FRONTEND=noninteractive
        apt-get update -q && apt-get install -q -y --no-install-recommends git make' \
        >>"$log" 2>&1 || die "apt-get in the new system failed (the whole log: $log)"
}

# inside ROOT SCRIPT: runs a bash script in the system below ROOT, with its own mounts
# and processes, and the environment of a login plus what npm and apt need here.
inside() {
    local root=$1 registry
    local env=(HOME=/root USER=root SHELL=/bin/bash TERM=dumb CI=true
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin)
    if [ -f "$root/etc/host-ca.crt" ]; then
        env+=(NODE_EXTRA_CA_CERTS=/etc/host-ca.crt npm_config_cafile=/etc/host-ca.crt)
    fi
    if command -v npm >/dev/null; then
        registry=$(npm config get registry 2>/dev/null)
        env+=("npm_config_registry=$registry")
    fi
    for name in http_proxy https_proxy no_proxy; do
        [ -z "${!name:-}" ] || env+=("$name=${!name}")
    done
    # shellcheck disable=SC2016
    apart bash -c '
        set -e
        root=$1; shift
        mount -t proc proc "$root/proc"
        mount --rbind /sys "$root/sys"
        mount -t tmpfs -o mode=755 dev "$root/dev"
        for node in null zero full random urandom tty; do
            touch "$root/dev/$node"; mount --bind "/dev/$node" "$root/dev/$node"
        done
        ln -s /proc/self/fd "$root/dev/fd"
        ln -s fd/0 "$root/dev/stdin"; ln -s fd/1 "$root/dev/stdout"
        ln -s fd/2 "$root/dev/stderr"
        mkdir "$root/dev/pts" "$root/dev/shm"
        mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
        ln -s pts/ptmx "$root/dev/ptmx"
        mount -t tmpfs -o mode=1777 shm "$root/dev/shm"
        exec chroot "$root" /usr/bin/env -i "$@"
    ' inside "$root" "${env[@]}" bash -c "$2"
}

# try WHO: one copy of the base, one clone, both commands.
try() {
    local who=$1 root=$work/$1 home status=0 script
    say "as $who"
    cp -a --reflink=auto "$work/base" "$root"
    if [ "$who" = user ]; then
        home=/home/dev
        inside "$root" 'export DEBIAN_FRONTEND=noninteractive
            apt-get install -q -y --no-install-recommends sudo &&
            useradd -m -s /bin/bash dev &&
            echo "dev ALL=(ALL) NOPASSWD: ALL" >/etc/sudoers.d/dev &&
            chmod 440 /etc/sudoers.d/dev' >>"$log" 2>&1 ||
            die "making the user failed (the whole log: $log)"
    else
        home=/root
    fi
    git -c safe.directory='*' clone -q --no-hardlinks "$ROOT" "$root$home/coulomb"
    [ "$who" = root ] || inside "$root" 'chown -R dev:dev /home/dev'

    # make run goes first, on a machine that has nothing yet.
    for script in scripts/smoke.sh "make test"; do
        printf '\n### %s as %s\n' "$script" "$who" | tee -a "$log"
        status=0
        if [ "$who" = root ]; then
            inside "$root" "cd $home/coulomb && exec $script" >"$work/part" 2>&1 || status=$?
        else
            inside "$root" "cd $home/coulomb && exec setpriv --reuid dev --regid dev \
                --init-groups env HOME=$home USER=dev $script" >"$work/part" 2>&1 || status=$?
        fi
        cat "$work/part" >>"$log"
        if [ "$status" -eq 0 ]; then
            grep -aE '^(ok|FAILED|skipped) ' "$work/part" || true
        else
            tail -n 100 "$work/part"
        fi
        tail -n 1 "$work/part"
        count_log "$work/part" "$status"
    done
    [ "${FRESH_KEEP:-}" = 1 ] || rm -rf --one-file-system "$root"
}

make_base
for who in "$@"; do
    try "$who"
done
tally | tee -a "$log"
