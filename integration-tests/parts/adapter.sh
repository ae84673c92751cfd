about="what socketioxide's own suite of adapters does, on every backend"
crates=""

. "$here/lib/brokers.sh"

prepare() {
    need_rust && need_redis && need_mongod && need_postgres && need_rabbitmq && need_nats
}

run() {
    cargo_tests -p trunkline-test-nodes
}
