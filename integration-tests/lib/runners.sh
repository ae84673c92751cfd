# Running tests and counting what the runner itself reports. Read by run.sh; expects $root, $here, $logs, $part and $log.

# A runner that hangs must end before the machine that runs it gives up without a word.
runner_seconds=1800

# cargo_tests ARGUMENT...: `cargo test` with these arguments.
# A test that finds that it does not apply prints "skipped: NAME: why" and counts as skipped, as does an ignored one.
cargo_tests() {
    from=$(lines_of "$log")
    watched '^ +(Running|Doc-tests) |^test result|^test .*(FAILED|ignored)|^error|panicked at|^skipped: ' \
        timeout -k 10 "$runner_seconds" cargo test --no-fail-fast "$@" -- --show-output
    ended=$?
    since "$from" | awk '
        /^test result: / { passed += $4; failed += $6; skipped += $8 }
        /^skipped: /     { passed -= 1; skipped += 1 }
        END              { print passed + 0, failed + 0, skipped + 0 }' >>"$logs/$part.counts"
    since "$from" | sed -n -e 's/^test \(.*\) \.\.\. ignored,* *\(.*\)/skipped \1: \2/p' -e 's/^skipped: /skipped /p' >>"$logs/$part.why"
    since "$from" | sed -n 's/^test \(.*\) \.\.\. FAILED$/failed \1/p' >>"$logs/$part.why"
    judge "$ended" "cargo test $*"
}

# cargo_build ARGUMENT...
cargo_build() {
    echo "   cargo build $*"
    watched '^(error|warning: unused)' cargo build "$@" && return 0
    because "cargo build $* failed"
    return 1
}

# node_tests FOLDER [OPTION]...: the files FOLDER/*.test.js below node/, with Node's own test runner.
node_tests() {
    folder=$1
    shift
    tap="$logs/$part.$folder.tap"
    (
        cd "$here/node" || exit 1
        watched '^(▶|✔)|^ *✖|^ℹ (tests|pass|fail|skipped) ' \
            timeout -k 10 "$runner_seconds" node --test "$@" \
            --test-reporter=spec --test-reporter-destination=stdout \
            --test-reporter=tap --test-reporter-destination="$tap" "$folder"/*.test.js
    )
    ended=$?
    awk '
        /^# pass /                { passed = $3 }
        /^# (fail|cancelled) /    { failed += $3 }
        /^# (skipped|todo) /      { skipped += $3 }
        END                       { print passed + 0, failed + 0, skipped + 0 }' "$tap" >>"$logs/$part.counts"
    sed -n -e 's/^ *ok [0-9]* - \(.*\) # SKIP *\(.*\)/skipped \1: \2/p' -e 's/^ *not ok [0-9]* - /failed /p' "$tap" >>"$logs/$part.why"
    judge "$ended" "node --test $folder"
}

# judge STATUS WHAT: whatever was counted, a runner that ended badly has failed, and says how.
judge() {
    case $1 in
    0) return 0 ;;
    124 | 137) because "$2: stopped after $runner_seconds s" ;;
    *) because "$2: status $1, see $log" ;;
    esac
    return "$1"
}

# watched PATTERN COMMAND...: the whole output goes to the log, the lines that match PATTERN also to the terminal.
watched() {
    pattern=$1
    shift
    {
        echo "\$ $*"
        sh -c 'echo $$ >"$0" && exec "$@"' "$logs/runner.pid" "$@" 2>&1 </dev/null
        echo $? >"$logs/$part.status"
    } | tee -a "$log" | grep --line-buffered -E "$pattern" | sed -u 's/^ */   /'
    return "$(cat "$logs/$part.status")"
}

# When the run is interrupted: `timeout` shields its command from the terminal's signal but passes on what it gets itself.
stop_runner() {
    [ -f "$logs/runner.pid" ] && kill -TERM "$(cat "$logs/runner.pid")" 2>/dev/null
}

# The target directory, wherever the configuration of cargo has put it.
target_directory() {
    cargo metadata --format-version 1 --no-deps --offline 2>/dev/null | sed 's/.*"target_directory":"\([^"]*\)".*/\1/'
}

lines_of() {
    wc -l <"$1"
}

# since LINE: the log after that line.
since() {
    tail -n "+$(($1 + 1))" "$log"
}
