about="the private brokers that the other parts start, and the fault proxy"
crates="trunkline-brokers"

. "$here/lib/brokers.sh"

prepare() {
    need_rust && need_redis && need_postgres && need_mongod && need_nats && need_rabbitmq
}

run() {
    cargo_tests trunkline-brokers
}
