about="a smoke run of the benchmarks: nothing is lost, repeated or out of order under load"
crates="trunkline-bench"

. "$here/lib/brokers.sh"

prepare() {
    need_rust && need_redis && need_mongod && need_postgres && need_rabbitmq && need_nats && cargo_build trunkline-bench
}

run() {
    cargo_tests trunkline-bench
    measured --ours --runs 1 --workload w1 --messages 5000
    whole=$?
    # The link, rooms of several clients, and a rate; one broker whose URL changes behind a link, and one whose does not.
    measured redis mongodb --ours --runs 1 --workload w3,w4 --clients 5 --messages 1000 --link 0.5ms || whole=$?
    # Bystanders, fetches and acknowledgements; one broker that counts its nodes, and one that does not.
    measured redis nats --ours --runs 1 --workload w5,w6,w7 --messages 500 || whole=$?
    reported || whole=$?
    return "$whole"
}

# reported: the tables and charts of what was measured last, and a small measurement of how the cost grows, one test each.
reported() {
    bench="$(target_directory)/debug/trunkline-bench"
    bad=0
    "$bench" report "$(target_directory)/debug/bench.jsonl" --into "$logs/charts" >>"$log" 2>&1 || bad=$((bad + 1))
    { timeout -k 10 120 "$bench" scaling nats --processes 2 --simulated 2,8 --namespaces 2 --rooms 50 --sockets 100 --results "$logs/scaling.jsonl" &&
        "$bench" scaling-report "$logs/scaling.jsonl" --into "$logs/charts"; } >>"$log" 2>&1 || bad=$((bad + 1))
    echo "$((2 - bad)) $bad 0" >>"$logs/$part.counts"
    [ "$bad" = 0 ] || because "the report of a results file: see $log"
    return "$bad"
}

# measured ARGUMENT...: one table per broker and workload is one test; the program fails if Trunkline breaks a promise.
measured() {
    from=$(lines_of "$log")
    watched '^(###|\||trunkline-bench:)' timeout -k 10 300 "$(target_directory)/debug/trunkline-bench" "$@"
    ended=$?
    tables=$(since "$from" | grep -c '^###')
    echo "$tables $((ended > 0)) 0" >>"$logs/$part.counts"
    [ "$ended" = 0 ] || because "trunkline-bench $*: status $ended, see $log"
    return "$ended"
}
