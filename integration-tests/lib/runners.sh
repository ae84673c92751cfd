# Running tests and counting what the runner itself reports. Read by run.sh; expects $root, $here, $logs, $only, $part and $log.

# A runner that hangs must end before the machine that runs it gives up without a word.
runner_seconds=1800

# cargo_tests PACKAGE...: the tests of these packages, as `cargo test` runs them, without those in the documentation.
# A test that finds that it does not apply prints "skipped: NAME: why" and counts as skipped, as does an ignored one.
cargo_tests() {
    cargo_build "$@" || return 1
    from=$(lines_of "$log") ended=0
    test_programs "$@" >"$logs/$part.programs"
    while read -r folder program source; do
        echo "   Running ${source#"$root"/}"
        tests_in "$folder" "$program" --show-output || ended=$?
    done <"$logs/$part.programs"
    count_tests "$from"
    judge "$ended" "tests of $*"
}

# The examples in the documentation of all packages.
documentation_tests() {
    from=$(lines_of "$log")
    tests_in "$root" cargo test --no-fail-fast --doc --workspace --all-features -- --show-output
    ended=$?
    count_tests "$from"
    judge "$ended" "cargo test --doc"
}

# tests_in FOLDER PROGRAM ARGUMENT...
tests_in() {
    (cd "$1" && shift && watched '^ +Doc-tests |^test result|^test .*(FAILED|ignored)|^error|panicked at|^skipped: ' \
        timeout -k 10 "$runner_seconds" "$@")
}

# count_tests LINE: what the test programs have reported in the log after that line.
count_tests() {
    since "$1" | awk '
        /^test result: / { passed += $4; failed += $6; skipped += $8 }
        /^skipped: /     { passed -= 1; skipped += 1 }
        END              { print passed + 0, failed + 0, skipped + 0 }' >>"$logs/$part.counts"
    since "$1" | sed -n -e 's/^test \(.*\) \.\.\. ignored,* *\(.*\)/skipped \1: \2/p' -e 's/^skipped: /skipped /p' >>"$logs/$part.why"
    since "$1" | sed -n 's/^test \(.*\) \.\.\. FAILED$/failed \1/p' >>"$logs/$part.why"
}

# cargo_build PACKAGE...: their tests, programs and examples. Without --only all packages, once: cargo builds a dependency for each set of features
# that the selected packages enable, and a selection per part would be a dozen builds of every client of a broker.
cargo_build() {
    artifacts="$logs/$part.artifacts"
    if [ -z "$only" ]; then
        artifacts="$logs/artifacts"
        [ ! -s "$artifacts" ] || return 0
    fi
    # shellcheck disable=SC2046 # several words are meant
    set -- --all-features $(packages "$@")
    echo "   cargo test --no-run $*"
    # shellcheck disable=SC2016 # the inner shell expands them
    if watched '^error' sh -c 'exec cargo test --no-run --message-format=json-render-diagnostics "$@" >"$0"' "$artifacts.new" "$@" &&
        watched '^error' cargo build --bins --examples "$@"; then
        mv "$artifacts.new" "$artifacts"
        return 0
    fi
    because "cargo test --no-run $* failed"
    return 1
}

# packages PACKAGE...: how cargo is told of them.
packages() {
    if [ -z "$only" ]; then
        echo "--workspace"
    else
        printf -- '-p %s\n' "$@"
    fi
}

# test_programs PACKAGE...: "FOLDER PROGRAM SOURCE" of each, from what cargo_build has built: unit tests first.
test_programs() {
    awk -v wanted=" $* " '
        # value KEY: of the first such key; the artifacts are one JSON object per line.
        function value(key) {
            if (!match($0, "\"" key "\":\"[^\"]*\"")) return ""
            return substr($0, RSTART + length(key) + 4, RLENGTH - length(key) - 5)
        }
        /^[{]"reason":"compiler-artifact"/ && /"profile":[{][^}]*"test":true}/ && /"executable":"/ {
            # FOLDER#NAME@VERSION, or FOLDER#VERSION if the folder has the name of the package.
            id = value("package_id"); folder = value("manifest_path"); sub("/Cargo.toml$", "", folder)
            name = id; sub(".*#", "", name)
            if (name !~ /@/) { name = folder; sub(".*/", "", name) }
            sub("@.*", "", name)
            source = value("src_path")
            if (index(wanted, " " name " ")) print folder, value("executable"), source, (source ~ "/tests/")
        }' "$artifacts" | sort -k1,1 -k4,4 -k3,3 | cut -d " " -f 1-3
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
