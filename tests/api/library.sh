#!/usr/bin/env bash
# library.sh BUILD-FOLDER CC: what an embedder gets. Each header alone as C99 and C++; what the
# libraries export; the tutorial against an installation, by pkg-config (shared and static) and by
# CMake. Prints lines as cmocka does, so that ctest.sh counts them.

set -uo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
build=$(cd "$1" && pwd)
cc=$2
work=$(mktemp -d "${TMPDIR:-/tmp}/coulomb-api-XXXXXX")
trap 'rm -rf "$work"' EXIT
failed=0

check() {
    local name=$1
    shift
    if "$@" >"$work/log" 2>&1; then
        printf '[       OK ] %s\n' "$name"
    else
        printf '[  FAILED  ] %s\n' "$name"
        cat "$work/log"
        failed=1
    fi
}

headers() {
    local compiler=$1 language=$2 standard=$3 header
    for header in "$root"/include/coulomb/*.h; do
        printf '#include "coulomb/%s"\n' "$(basename "$header")" |
            "$compiler" -x "$language" -std="$standard" -pedantic -Wall -Wextra -Werror \
                -I"$root/include" -fsyntax-only - || return 1
    done
}

# Every symbol begins with coulomb_, and every function of the headers is there.
exports() {
    local names name
    names=$(nm "$@" --defined-only | awk 'NF >= 3 { print $3 }') || return 1
    ! grep -v '^coulomb_' <<<"$names" || return 1
    for name in $(grep -ohE '\bcoulomb_[a-z0-9_]+ *\(' "$root"/include/coulomb/*.h | tr -d ' (' | sort -u); do
        # Inline makers are in no library.
        grep -qE "static inline .*\b$name\(" "$root"/include/coulomb/*.h && continue
        grep -qE "^(COULOMB_API .*|.*[ *])$name\(" "$root"/include/coulomb/*.h || continue
        grep -qx "$name" <<<"$names" || { echo "missing: $name"; return 1; }
    done
}

tutorial() {
    local out=$1
    shift
    "$@" || return 1
    LD_LIBRARY_PATH=$work/root/lib "$out" >"$work/out" || return 1
    diff "$root/tests/api/todo.expected" "$work/out"
}

by_cmake() {
    mkdir -p "$work/cmake" && cat >"$work/cmake/CMakeLists.txt" <<'CMAKE'
cmake_minimum_required(VERSION 3.25)
project(todo C)
find_package(coulomb REQUIRED)
add_executable(todo todo.c)
target_link_libraries(todo PRIVATE coulomb::coulomb)
CMAKE
    cp "$root/examples/todo.c" "$work/cmake/"
    cmake -S "$work/cmake" -B "$work/cmake/build" -DCMAKE_PREFIX_PATH="$work/root" &&
        cmake --build "$work/cmake/build"
}

check headers_are_c99 headers "$cc" c c99
check headers_are_cxx headers "${CXX:-g++}" c++ c++11
check shared_library_exports_its_functions_only exports -D "$build/libcoulomb.so"
check static_library_exports_its_functions_only exports -g "$build/libcoulomb.a"
check reference_is_what_the_headers_say "$root/scripts/reference.sh" --check
check install cmake --install "$build" --prefix "$work/root"
export PKG_CONFIG_PATH=$work/root/lib/pkgconfig
# The prefix of the file is the configured one.
sed -i "s|^prefix=.*|prefix=$work/root|" "$PKG_CONFIG_PATH/coulomb.pc"
# shellcheck disable=SC2046  # flags are words
check tutorial_by_pkg_config tutorial "$work/todo" "$cc" -std=c99 -D_POSIX_C_SOURCE=200809L \
    "$root/examples/todo.c" $(pkg-config --cflags --libs coulomb) -o "$work/todo"
# shellcheck disable=SC2046
check tutorial_with_the_static_library tutorial "$work/todo_static" "$cc" -std=c99 \
    -D_POSIX_C_SOURCE=200809L "$root/examples/todo.c" $(pkg-config --cflags coulomb) \
    "$work/root/lib/libcoulomb.a" $(pkg-config --static --libs-only-l coulomb | sed 's/-lcoulomb//') \
    -o "$work/todo_static"
check tutorial_by_cmake tutorial "$work/cmake/build/todo" by_cmake
exit "$failed"
