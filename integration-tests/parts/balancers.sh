about="nginx, HAProxy and Apache with the configurations of docker/balancers/, in front of nodes that come and go"
crates=""

. "$here/lib/brokers.sh"

prepare() {
    need_rust && need_node_packages && need_redis && need_balancers && cargo_build trunkline-test-nodes
}

run() {
    TEST_NODE="$(target_directory)/debug/test-node"
    TEST_BROKER="$(target_directory)/debug/test-broker"
    export TEST_NODE TEST_BROKER
    node_tests balancers
}

# The tests start private instances; services of the machine are left alone.
need_balancers() {
    need_packages nginx-light haproxy apache2-bin util-linux && need_program nginx /usr/sbin && need_program haproxy /usr/sbin &&
        need_program apache2 /usr/sbin
}
