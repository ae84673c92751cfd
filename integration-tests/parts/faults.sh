about="two faults on each broker, under load: nothing is lost, repeated, out of order or wrong against the promise"
crates="trunkline-faults"

. "$here/lib/brokers.sh"

prepare() {
    need_rust && need_redis && need_mongod && need_postgres && need_rabbitmq && need_nats &&
        cargo_build -p trunkline-faults -p trunkline-test-nodes
}

# A broker that is killed, and a node that loses its connections: both are quick, and hold on a busy machine. All others are
# run by hand: `just faults`.
run() {
    cargo_tests -p trunkline-faults
    whole=$?
    from=$(lines_of "$log")
    watched '(kept|BROKEN|FAILED|–) |^ {14}|^trunkline-faults:' timeout -k 10 300 "$(target_directory)/debug/trunkline-faults" \
        redis-streams mongodb postgres-history rabbitmq nats-history --fault broker-killed,reset --jobs 3 --results "$logs/faults.jsonl" --logs "$logs/faults"
    ended=$?
    since "$from" | awk '
        / kept   /          { kept++ }
        / (BROKEN|FAILED) / { failed++ }
        / –      /          { skipped++ }
        END                 { print kept + 0, failed + 0, skipped + 0 }' >>"$logs/$part.counts"
    since "$from" | sed -n 's/^.* BROKEN \([^ ]* [^ ]*\) .*/failed \1/p; s/^.* FAILED \([^ ]* [^ ]*\) .*/failed \1/p' >>"$logs/$part.why"
    [ "$ended" = 0 ] || because "trunkline-faults: status $ended, see $log"
    [ "$whole" = 0 ] && [ "$ended" = 0 ]
}
