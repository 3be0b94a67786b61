#!/usr/bin/env bash
# tidy.sh [FILE…]: clang-tidy over the named C files, or over every file of the build
# (configured with clang), two at a time.

. "$(dirname "$0")/common.sh"

log=$ROOT/build/configure-clang.log
mkdir -p build
cmake --preset clang >"$log" 2>&1 || { cat "$log" >&2; die "configuring failed"; }
if [ $# -eq 0 ]; then
    mapfile -t files < <(sed -n 's/^ *"file": "\(.*\)",\{0,1\}$/\1/p' \
        build/clang/compile_commands.json | sort -u)
    set -- "${files[@]}"
fi
[ $# -gt 0 ] || die "no C file to check"
printf '%s\0' "$@" |
    xargs -0 -n 1 -P "$(nproc)" clang-tidy-14 --quiet -p build/clang 2>/dev/null
