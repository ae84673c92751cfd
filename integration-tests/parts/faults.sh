about="one or two faults on each broker, under load: nothing is lost, repeated, out of order or wrong against the promise"
crates="trunkline-faults"

. "$here/lib/brokers.sh"

prepare() {
    need_rust && need_redis && need_mongod && need_postgres && need_rabbitmq && need_nats &&
        cargo_build trunkline-faults trunkline-test-nodes
}

# Faults that are quick, and hold on a busy machine: there, MongoDB and RabbitMQ take their time to start again, and nodes to
# connect to RabbitMQ. All others are run by hand: `just faults`.
run() {
    cargo_tests trunkline-faults
    whole=$?
    cells redis-streams postgres-history nats-history --fault reset,broker-killed || whole=1
    cells mongodb rabbitmq --fault closed-by-admin || whole=1
    return "$whole"
}

# cells ARGUMENT...: `trunkline-faults` with these arguments. Each cell is one test.
cells() {
    from=$(lines_of "$log")
    watched '(kept|BROKEN|FAILED|–) |^ {14}|^trunkline-faults:' timeout -k 10 300 "$(target_directory)/debug/trunkline-faults" \
        "$@" --jobs 3 --results "$logs/faults.jsonl" --logs "$logs/faults"
    ended=$?
    since "$from" | awk '
        / kept   /          { kept++ }
        / (BROKEN|FAILED) / { failed++ }
        / –      /          { skipped++ }
        END                 { print kept + 0, failed + 0, skipped + 0 }' >>"$logs/$part.counts"
    since "$from" | sed -n 's/^.* BROKEN \([^ ]* [^ ]*\) .*/failed \1/p; s/^.* FAILED \([^ ]* [^ ]*\) .*/failed \1/p' >>"$logs/$part.why"
    [ "$ended" = 0 ] || because "trunkline-faults: status $ended, see $log"
    return "$ended"
}
