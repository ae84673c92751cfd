about="the NATS backend on real servers: conformance, faults, topologies"
crates="trunkline-nats"

. "$here/lib/brokers.sh"

prepare() {
    need_rust && need_nats
}

run() {
    cargo_tests trunkline-nats
}
