about="the PostgreSQL backend on real servers: conformance, faults, topologies"
crates="trunkline-postgres"

. "$here/lib/brokers.sh"

prepare() {
    # Not in the path of ordinary users.
    PATH="$PATH:/usr/sbin"
    need_rust && need_postgres && need_packages pgbouncer && need_program pgbouncer
}

run() {
    cargo_tests trunkline-postgres
}
