#!/usr/bin/env bash
# npm-ci.sh DIR: installs exactly what DIR/package-lock.json names into
# DIR/node_modules, unless just that is there already. No package's scripts run.

. "$(dirname "$0")/common.sh"

dir=${1:?usage: npm-ci.sh DIR}
[ -f "$dir/package-lock.json" ] || die "$dir/package-lock.json is missing"
command -v npm >/dev/null || die "npm is missing; run scripts/install.sh run"

stamp=$dir/node_modules/.coulomb-lock
lock=$(sha256sum <"$dir/package-lock.json")
current() { [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$lock" ]; }
if current; then
    exit 0
fi

mkdir -p "$ROOT/build"
log=$ROOT/build/npm-$(printf '%s' "$dir" | tr -c 'a-zA-Z0-9\n' -).log
# Another make in the same checkout may be at it; then it is done when the lock is free.
exec 9>"${log%.log}.lock"
flock 9
if current; then
    exit 0
fi
say "npm ci in $dir"
for attempt in 1 2 3; do
    if (cd "$dir" && npm ci --ignore-scripts --no-audit --no-fund \
        --no-update-notifier --loglevel=error) >"$log" 2>&1 </dev/null; then
        printf '%s\n' "$lock" >"$stamp"
        exit 0
    fi
    say "npm ci in $dir failed (attempt $attempt of 3)"
    sleep "$attempt"
done
tail -n 40 "$log" >&2
die "npm ci in $dir failed (the whole log: $log)"
