about="mixed clusters: one Rust node and two Node.js nodes with the official adapters, every operation in both directions, a soak in short"
crates=""

. "$here/lib/brokers.sh"

prepare() {
    need_rust && need_node_packages && need_brokers && cargo_build trunkline-test-nodes
}

need_brokers() {
    need_redis && need_postgres && need_nats && need_rabbitmq && need_mongod
}

run() {
    TEST_NODE="$(target_directory)/debug/test-node"
    TEST_BROKER="$(target_directory)/debug/test-broker"
    INTEROP_RESULTS="$logs/interop"
    export TEST_NODE TEST_BROKER INTEROP_RESULTS
    mkdir -p "$INTEROP_RESULTS"
    # The transports wait more than they compute.
    node_tests interop --test-concurrency=4
    status=$?
    node "$here/node/lib/interop/table.js" --results "$INTEROP_RESULTS"
    return $status
}
