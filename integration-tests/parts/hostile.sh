about="hostile messages on every channel of every transport, while valid traffic flows"
crates="trunkline-hostile"

. "$here/lib/brokers.sh"

prepare() {
    need_rust && need_redis && need_mongod && need_postgres && need_rabbitmq && need_nats &&
        cargo_build trunkline-hostile trunkline-test-nodes
}

# Each transport is one test; the program fails if one of them breaks a promise. As many messages as a minute allows:
# `just hostile` sends more.
run() {
    cargo_tests trunkline-hostile
    from=$(lines_of "$log")
    watched '^(\||seed|trunkline-hostile:)' timeout -k 10 600 "$(target_directory)/debug/trunkline-hostile" \
        --messages 1000 --jobs 3 --logs "$logs/hostile"
    ended=$?
    kept=$(since "$from" | grep -c '^|.*| kept |$')
    broken=$(since "$from" | grep -c '^|.*| BROKEN |$')
    [ "$ended" = 0 ] || [ "$broken" -gt 0 ] || broken=1
    echo "$kept $broken 0" >>"$logs/$part.counts"
    [ "$ended" = 0 ] || because "trunkline-hostile: status $ended, see $log"
    return "$ended"
}
