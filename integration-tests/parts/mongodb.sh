about="the MongoDB backend on real servers: conformance, faults, topologies"
crates="trunkline-mongodb"

. "$here/lib/brokers.sh"

prepare() {
    need_rust && need_mongod
}

run() {
    cargo_tests trunkline-mongodb
}
