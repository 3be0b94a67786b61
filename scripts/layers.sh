#!/usr/bin/env bash
# layers.sh: checks every #include line of src/ against scripts/layers.txt.

. "$(dirname "$0")/common.sh"

mapfile -t files < <(find src -name '*.[ch]' | sort)
[ ${#files[@]} -gt 0 ] || die "no source file found"

awk '
    function complain(text) { print text > "/dev/stderr"; bad = 1 }
    # The module a file or header path (below src/) belongs to: its folder.
    function module_of(path) { sub(/\/[^\/]*$/, "", path); return path }
    function load_rule(line,    n, i, words, name) {
        n = split(line, words, /[ \t]+/)
        name = words[2]; sub(/:$/, "", name)
        if (words[1] == "module") {
            for (i = 3; i <= n; i++) {
                if (!(words[i] in known))
                    complain("scripts/layers.txt: " name " may not name " words[i] \
                        ", which is not above it")
                allowed[name, words[i]] = 1
            }
            known[name] = 1
            allowed[name, name] = 1
        } else if (words[1] == "only") {
            external[name] = 1
            for (i = 3; i <= n; i++) {
                if (words[i] == ":one") { one[name] = 1; continue }
                may[name, words[i]] = 1
                places[name] = places[name] " " words[i]
            }
        } else {
            complain("scripts/layers.txt: \"" words[1] "\" is neither module nor only")
        }
    }
    FNR == NR { if ($0 !~ /^[ \t]*(#|$)/) load_rule($0); next }
    FNR == 1 {
        path = FILENAME; sub(/^src\//, "", path)
        module = module_of(path)
        if (!(module in known))
            complain(FILENAME ": module " module " is not in scripts/layers.txt")
    }
    /^[ \t]*#[ \t]*include[ \t]*"/ {
        split($0, part, "\""); header = part[2]
        if (header == "coulomb_version.h") next
        if (header ~ /^coulomb\//) {
            if (module !~ /^client/ && module != "cli")
                complain(FILENAME ":" FNR ": " header " is for client modules and the commands")
            next
        }
        if (header !~ /\//) {
            complain(FILENAME ":" FNR ": write \"" header "\" from src/: \"" module "/" header "\"")
            next
        }
        if ((getline probe < ("src/" header)) < 0)
            complain(FILENAME ":" FNR ": src/" header " does not exist")
        close("src/" header)
        if (!((module, module_of(header)) in allowed))
            complain(FILENAME ":" FNR ": " module " may not include " header)
    }
    /^[ \t]*#[ \t]*include[ \t]*</ {
        header = $0; sub(/^[^<]*</, "", header); sub(/>.*/, "", header)
        for (name in external) {
            if (index(header, name) != 1) continue
            if (!((name, module) in may))
                complain(FILENAME ":" FNR ": <" header "> belongs in" places[name] " only")
            if (name in one) {
                if (FILENAME !~ /\.c$/)
                    complain(FILENAME ":" FNR ": <" header "> in a header; one .c file hides it")
                else if (name in user && user[name] != FILENAME)
                    complain(FILENAME ":" FNR ": <" header "> is already used by " user[name] \
                        "; one .c file hides it")
                user[name] = FILENAME
            }
        }
    }
    END { exit bad }
' scripts/layers.txt "${files[@]}"
