# What the parts report, and how it is printed. Read by run.sh; expects $logs, $here and $all_parts.
#
# Each part leaves three files in $logs:
#   PART.log     everything its tools printed
#   PART.counts  a line "passed failed skipped" per runner
#   PART.why     a line per reason for a failure or a skip

# run_part PART: in a subshell, so that no part can disturb another.
run_part() {
    printf '\n== %s\n' "$1"
    part_began=$(date +%s)
    : >"$logs/$1.log"
    : >"$logs/$1.counts"
    : >"$logs/$1.why"
    (
        part=$1 log="$logs/$1.log"
        . "$here/parts/$1.sh"
        prepare && run
    )
    settle "$1" $?
    echo $(($(date +%s) - part_began)) >"$logs/$1.seconds"
    print_part "$1"
    [ "$(counted "$1" 2)" -eq 0 ] || show_failures "$logs/$1.log"
}

skip_part() {
    echo "0 0 1" >"$logs/$1.counts"
    echo "$2" >"$logs/$1.why"
    echo 0 >"$logs/$1.seconds"
}

# because REASON: what the report says about the part that is running.
because() {
    echo "$1" >>"$logs/$part.why"
}

# settle PART STATUS: a part that broke, or in which no test ran, has failed even if nothing was counted.
settle() {
    ran=$(($(counted "$1" 1) + $(counted "$1" 2)))
    if [ "$2" -ne 0 ] && [ "$(counted "$1" 2)" -eq 0 ]; then
        [ -s "$logs/$1.why" ] || echo "ended with status $2" >>"$logs/$1.why"
        echo "0 1 0" >>"$logs/$1.counts"
    elif [ "$ran" -eq 0 ]; then
        echo "no test ran" >>"$logs/$1.why"
        echo "0 1 0" >>"$logs/$1.counts"
    fi
}

# counted PART COLUMN: 1 passed, 2 failed, 3 skipped.
counted() {
    awk -v column="$2" '{ sum += $column } END { print sum + 0 }' "$logs/$1.counts"
}

# report SECONDS: the summary; its last line is for machines. Fails if anything failed.
report() {
    printf '\n== summary (%s s)\n' "$1"
    passed=0 failed=0 skipped=0
    for part in $all_parts; do
        [ -f "$logs/$part.counts" ] || continue
        print_part "$part"
        passed=$((passed + $(counted "$part" 1)))
        failed=$((failed + $(counted "$part" 2)))
        skipped=$((skipped + $(counted "$part" 3)))
    done
    echo "$passed passed, $failed failed, $skipped skipped"
    [ "$failed" -eq 0 ]
}

print_part() {
    verdict=passed
    [ "$(counted "$1" 1)" -gt 0 ] || verdict=skipped
    [ "$(counted "$1" 2)" -eq 0 ] || verdict=FAILED
    printf '%-10s %-8s %s passed, %s failed, %s skipped (%s s)\n' "$1" "$verdict" \
        "$(counted "$1" 1)" "$(counted "$1" 2)" "$(counted "$1" 3)" "$(cat "$logs/$1.seconds")"
    sed 's/^/             /' "$logs/$1.why"
}

# show_failures LOG: what the tools said about failures: compiler errors, failed Rust tests, failed Node.js tests.
show_failures() {
    echo "-- from $1"
    awk '
        /^failures:$/ || /^(.. )?failing tests:$/ { failing = 1 }
        (/^error/ && !/^error: test failed/) || /^Caused by:$/ { message = 1 }
        failing || message { print; shown = 1 }
        /^test result: /   { failing = 0 }
        /^$/               { message = 0 }
        { last[NR % 40] = $0 }
        END { if (!shown) for (i = NR + 1; i <= NR + 40; i++) if (i % 40 in last) print last[i % 40] }' "$1" | head -n 400
    echo "-- end of $1"
}
