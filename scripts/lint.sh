#!/usr/bin/env bash
# make lint: everything that is checked by reading the source.

. "$(dirname "$0")/common.sh"

scripts/install.sh lint

format_check() { project_files '*.[ch]' | xargs -r clang-format-14 --dry-run --Werror; }

# What depends on the path taken is left to clang's analyzer, which sees more of it.
# readdir is safe as long as threads don't share the DIR; readdir_r is deprecated.
cppcheck_check() {
    cppcheck --quiet --std=c11 --library=posix,gnu --enable=warning,portability \
        --inline-suppr --error-exitcode=1 --suppress=uninitvar --suppress=nullPointer \
        --suppress=ctunullpointer --suppress=zerodivcond --suppress=internalAstError \
        --suppress=readdirCalled \
        -j "$(nproc)" -D_GNU_SOURCE -DCOULOMB_VERSION='""' -Isrc -Iinclude src
}

shell_check() {
    { project_files '*.sh' && echo .ci/run; } | xargs shellcheck -x --severity=warning
}

check "layers" scripts/layers.sh
check "banned functions" scripts/banned.sh
check "lock files" scripts/locks.sh
check "clang-format" format_check
check "shellcheck" shell_check
check "cppcheck" cppcheck_check
check "clang-tidy" scripts/tidy.sh
tally
