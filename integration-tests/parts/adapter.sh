about="what socketioxide's own suite of adapters does, on every backend; metrics in Prometheus; traces; what dynamic namespaces leave at the broker"
crates="trunkline-traces"

. "$here/lib/brokers.sh"

prepare() {
    need_rust && need_redis && need_mongod && need_postgres && need_rabbitmq && need_nats && need_prometheus
}

run() {
    cargo_tests trunkline-test-nodes trunkline-traces
}
