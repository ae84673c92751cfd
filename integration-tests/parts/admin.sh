about="the official admin page in headless Chromium, on clusters of Rust and Node.js servers"
crates="trunkline-admin"

. "$here/lib/brokers.sh"

prepare() {
    need_rust && need_node_packages && need_chromium && need_redis && need_nats &&
        cargo_build trunkline-admin trunkline-test-nodes
}

run() {
    cargo_tests trunkline-admin
    whole=$?
    ADMIN="$(target_directory)/debug/examples/admin"
    TEST_BROKER="$(target_directory)/debug/test-broker"
    SCREENSHOTS="$logs/screenshots"
    export ADMIN TEST_BROKER SCREENSHOTS
    mkdir -p "$SCREENSHOTS"
    # The clusters wait more than they compute.
    node_tests admin --test-concurrency=2 || whole=1
    return "$whole"
}
