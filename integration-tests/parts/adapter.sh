about="what socketioxide's own suite of adapters does, on every backend; metrics of a live cluster in Prometheus"
crates=""

. "$here/lib/brokers.sh"

prepare() {
    need_rust && need_redis && need_mongod && need_postgres && need_rabbitmq && need_nats && need_prometheus
}

run() {
    cargo_tests -p trunkline-test-nodes
}
