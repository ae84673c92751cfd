about="what must be the same on every backend: errors, log messages, credentials, TLS"
crates="trunkline-backends"

. "$here/lib/brokers.sh"

prepare() {
    need_rust && need_redis && need_mongod && need_postgres && need_rabbitmq && need_nats
}

run() {
    cargo_tests trunkline-backends
}
