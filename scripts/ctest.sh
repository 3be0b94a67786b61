#!/usr/bin/env bash
# ctest.sh PRESET [ctest arguments]: runs the C tests of a built preset and counts
# each cmocka test. A program that does not report (a corpus replay, a crash) is one.

. "$(dirname "$0")/common.sh"

preset=${1:?usage: ctest.sh PRESET [ctest arguments]}
shift
run=()
# ThreadSanitizer's fixed memory map and full address randomisation don't go together.
if [ "$preset" = tsan ] && setarch "$(uname -m)" -R true 2>/dev/null; then
    run=(setarch "$(uname -m)" -R)
fi

logs=$ROOT/build/$preset/Testing/Temporary
log=$logs/LastTest.log
rm -f "$log" "$logs/LastTestsFailed.log"
"${run[@]}" ctest --preset "$preset" --quiet "$@" </dev/null || true
[ -f "$log" ] || die "no test was run; is the preset '$preset' built?"
touch "$logs/LastTestsFailed.log"

# LastTestsFailed.log names the programs that failed, timed out or were not built, as
# "number:name". LastTest.log has one block per program with its output.
awk '
    function flush_block() {
        if (name == "") return
        passed += ok; skipped += sk
        if (name in broken) {
            failed += bad ? bad : 1
            printf "FAILED  %s\n%s", name, text
        } else if (ok + sk == 0) passed++
        name = ""
    }
    FNR == NR && FILENAME ~ /Failed/ { sub(/^[0-9]+:/, ""); broken[$0] = 1; next }
    / Testing: / && $1 ~ /^[0-9]+\/[0-9]+$/ {
        flush_block()
        name = $3; ok = bad = sk = 0; text = ""
        next
    }
    name != "" {
        text = text $0 "\n"
        # cmocka names what it skipped or failed twice: at once and in its summary.
        if ($0 ~ /^\[       OK \]/) ok++
        else if ($0 ~ /^\[  SKIPPED \] [A-Za-z_]/) sk += !((name, $4) in seen)
        else if ($0 ~ /^\[  FAILED  \] [A-Za-z_]/) bad += !((name, $4) in seen)
        if ($0 ~ /^\[  (SKIPPED|FAILED ) \]/) seen[name, $4] = 1
    }
    END { flush_block(); print passed + 0, failed + 0, skipped + 0 > summary }
' summary="$ROOT/build/$preset/Testing/summary" "$logs/LastTestsFailed.log" "$log"
read -r passed failed skipped <"$ROOT/build/$preset/Testing/summary"
count "$passed" "$failed" "$skipped"
tally
