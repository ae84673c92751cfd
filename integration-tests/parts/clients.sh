about="the official socket.io-client against three nodes: all operations, transports and parsers"
crates="trunkline-test-nodes"

prepare() {
    need_rust && need_node_packages && cargo_build trunkline-test-nodes
}

run() {
    TEST_NODE="$(target_directory)/debug/test-node"
    export TEST_NODE
    node_tests clients
}
