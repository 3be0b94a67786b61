#!/usr/bin/env bash
# locks.sh: every package.json has its lock file, and no lock file names a host, so
# that packages come from whatever registry the machine is set up for.

. "$(dirname "$0")/common.sh"

bad=0
while read -r package; do
    dir=$(dirname "$package")
    if [ ! -f "$dir/package-lock.json" ]; then
        printf '%s: package-lock.json is missing\n' "$dir" >&2
        bad=1
    elif grep -qE '"resolved"|https?://[^"]*/-/' "$dir/package-lock.json"; then
        printf '%s\n' "$dir/package-lock.json names a registry host; make it again with" \
            "npm install --package-lock-only --omit-lockfile-registry-resolved" >&2
        bad=1
    fi
done < <(project_files package.json)
exit "$bad"
