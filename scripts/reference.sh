#!/usr/bin/env bash
# reference.sh [--check]: writes docs/reference.md from the headers of include/coulomb, or checks
# that it is what they say.

. "$(dirname "$0")/common.sh"

generate() {
    printf '# Reference of libcoulomb\n\nMade from the headers by `scripts/reference.sh`; change those.\n'
    for name in base client value sync collection tx kinds credentials electric server; do
        printf '\n## coulomb/%s.h\n\n' "$name"
        awk '
            function flush_code() {
                if (code != "") printf "```c\n%s```\n\n", code
                code = ""
            }
            /^#/ { if (/\\$/) macro = 1; next }
            macro { if (!/\\$/) macro = 0; next }
            /^extern "C" \{/ || /^#/ { next }
            body { if (/^}/) body = 0; next }
            comment { text = $0; if (/\*\//) comment = 0
                sub(/^ \*\/?( |$)/, "", text); sub(/ *\*\/$/, "", text); print text
                if (!comment) print ""
                next }
            /^\/\* ---/ { flush_code(); title = $0; gsub(/^\/\* -* | -*.*-* ?\*\/$/, "", title)
                sub(/ -+$/, "", title); printf "### %s\n\n", title; next }
            /^\/\*/ { flush_code(); text = $0; comment = !/\*\//
                sub(/^\/\* /, "", text); sub(/ *\*\/$/, "", text); print text
                if (!comment) print ""
                next }
            /^$/ { flush_code(); next }
            /^}$/ && code == "" { next }
            /^static inline/ { inline = 1 }
            { line = $0; gsub(/COULOMB_API |COULOMB_MUST_CHECK /, "", line)
                if (line ~ /^\{$/ && inline) { body = 1; inline = 0; code = code ";\n"; sub(/\n;/, ";", code); next }
                code = code line "\n" }
            END { flush_code() }
        ' "include/coulomb/$name.h"
    done
    printf '## Errors\n\n| code | number | text | in TanStack DB |\n|---|---|---|---|\n'
    tr -d '\n\\' <include/coulomb/base.h | grep -oE 'X\([A-Z_]+, -[0-9]+, +"[^"]*", +"[^"]*"\)' |
        sed -E 's/^X\(([A-Z_]+), (-[0-9]+), +"([^"]*)", +"([^"]*)"\)$/| `COULOMB_E_\1` | \2 | \3 | \4 |/'
}

if [ "${1:-}" = --check ]; then
    generate | diff -u docs/reference.md - >&2 ||
        die "docs/reference.md is not what the headers say; run scripts/reference.sh"
else
    generate >docs/reference.md
fi
