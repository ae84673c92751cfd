about="the programs of docs/recipes.md, with the official client, beside the official adapter where that is the point"
crates=""

. "$here/lib/brokers.sh"

prepare() {
    need_rust && need_node_packages && need_redis && cargo_build trunkline trunkline-test-nodes
}

run() {
    RECIPES="$(target_directory)/debug/examples/recipes"
    TEST_BROKER="$(target_directory)/debug/test-broker"
    export RECIPES TEST_BROKER
    node_tests recipes
}
