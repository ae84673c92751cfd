about="the PostgreSQL backend on real servers: conformance, faults, topologies"
crates="trunkline-postgres"

. "$here/lib/brokers.sh"

prepare() {
    need_rust && need_postgres
}

run() {
    cargo_tests -p trunkline-postgres
}
