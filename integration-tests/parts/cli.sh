about="the program trunkline on real brokers, healthy and broken"
crates="trunkline-cli"

. "$here/lib/brokers.sh"

prepare() {
    # Not in the path of ordinary users.
    PATH="$PATH:/usr/sbin"
    need_rust && need_redis && need_mongod && need_postgres && need_rabbitmq && need_nats \
        && need_packages pgbouncer && need_program pgbouncer
}

run() {
    cargo_tests trunkline-cli
}
