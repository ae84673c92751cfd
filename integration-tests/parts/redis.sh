about="the Redis backend on real servers: conformance, faults, topologies"
crates="trunkline-redis"

. "$here/lib/brokers.sh"

prepare() {
    need_rust && need_redis
}

run() {
    cargo_tests trunkline-redis
}
