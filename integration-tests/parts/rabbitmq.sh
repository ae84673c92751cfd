about="the RabbitMQ backend on real servers: conformance, faults, topologies"
crates="trunkline-rabbitmq"

. "$here/lib/brokers.sh"

prepare() {
    need_rust && need_rabbitmq
}

run() {
    cargo_tests trunkline-rabbitmq
}
