#!/usr/bin/env bash
# banned.sh: no call of a function of scripts/banned.txt in any C file. Comments and
# string literals don't count.

. "$(dirname "$0")/common.sh"

mapfile -t files < <(project_files '*.[ch]')
[ ${#files[@]} -gt 0 ] || die "no source file found"

awk '
    FNR == NR {
        if ($0 !~ /^[ \t]*(#|$)/) { name = $1; $1 = ""; instead[name] = $0 }
        next
    }
    FNR == 1 { comment = 0 }
    {
        line = $0
        gsub(/\\["\\\047]/, "", line)              # escaped quotes and backslashes
        gsub(/"[^"]*"/, "\"\"", line)              # strings
        gsub(/\047[^\047]*\047/, "0", line)        # characters
        gsub(/\/\*[^*]*(\*+[^*\/][^*]*)*\*+\//, " ", line)
        if (comment && line !~ /\*\//) next
        if (comment) { sub(/^.*\*\//, "", line); comment = 0 }
        sub(/\/\/.*/, "", line)
        if (line ~ /\/\*/) { sub(/\/\*.*/, "", line); comment = 1 }
        while (match(line, /[A-Za-z_][A-Za-z0-9_]*[ \t]*\(/)) {
            name = substr(line, RSTART, RLENGTH)
            sub(/[ \t]*\($/, "", name)
            if (name in instead) {
                print FILENAME ":" FNR ": " name " is banned; use" instead[name] > "/dev/stderr"
                bad = 1
            }
            line = substr(line, RSTART + RLENGTH)
        }
    }
    END { exit bad }
' scripts/banned.txt "${files[@]}"
