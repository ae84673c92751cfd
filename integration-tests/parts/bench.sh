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
    measured redis mongodb --ours --runs 1 --workload w3,w4 --clients 5 --messages 1000 --link 0.5ms && return "$whole"
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
