#!/bin/sh
# The brokers of compose.yml, for people and for tests.
#
#   docker/brokers.sh up redis nats     starts these (all of them without a name) and returns when they are healthy
#   docker/brokers.sh down              stops and removes everything
#   docker/brokers.sh conformance redis runs the conformance suite against the one in the container
set -eu

here=$(cd "$(dirname "$0")" && pwd)

fail() {
    echo "brokers: $1" >&2
    exit 1
}

compose() {
    if command -v docker-compose >/dev/null; then
        docker-compose --project-name trunkline --file "$here/compose.yml" "$@"
    else
        docker compose --project-name trunkline --file "$here/compose.yml" "$@"
    fi
}

up() {
    compose up -d "$@"
    for container in $(compose ps -q "$@"); do
        await "$container"
    done
}

# Older versions of compose cannot wait. Five minutes are for a machine that has other things to do.
await() {
    for _ in $(seq 600); do
        health=$(docker inspect --format '{{.State.Status}} {{.State.Health.Status}}' "$1")
        case $health in
        "running healthy") return 0 ;;
        running*) sleep 0.5 ;;
        *) break ;;
        esac
    done
    docker logs --tail 20 "$1" >&2
    fail "$(docker inspect --format '{{.Name}}' "$1") is not healthy: $health"
}

# The name of a broker's variable, and its URL in compose.yml.
conformance() {
    case ${1:-} in
    redis) url=redis://127.0.0.1:16379 variable=TRUNKLINE_REDIS_URL ;;
    postgres) url=postgres://postgres:trunkline@127.0.0.1:15432/postgres variable=TRUNKLINE_POSTGRES_URL ;;
    mongodb) url="mongodb://127.0.0.1:17017/?directConnection=true" variable=TRUNKLINE_MONGODB_URL ;;
    rabbitmq) url=amqp://guest:guest@127.0.0.1:15673 variable=TRUNKLINE_RABBITMQ_URL ;;
    nats) url=nats://127.0.0.1:14222 variable=TRUNKLINE_NATS_URL ;;
    *) fail "conformance needs one of: redis postgres mongodb rabbitmq nats" ;;
    esac
    broker=$1
    shift
    [ -n "$(compose ps -q "$broker")" ] || fail "$broker is not up: run 'just up $broker'"
    # The suite leaves its streams behind; those of a second run would find no room.
    [ "$broker" != nats ] || compose up -d --force-recreate --renew-anon-volumes nats
    up "$broker"
    export "$variable=$url"
    # What needs servers of its own, such as clusters, is left to the integration tests.
    if [ "$broker" = redis ]; then
        cargo test -p trunkline-redis --test conformance "$@" -- pubsub:: streams_single::
        cargo test -p trunkline-redis --test sharded "$@" -- all_to_all:: dynamic:: dynamic_private::
    else
        cargo test -p "trunkline-$broker" --test conformance "$@"
    fi
}

command=${1:-}
[ -n "$command" ] && shift
case $command in
up) up "$@" ;;
down) compose down --volumes --remove-orphans ;;
conformance) conformance "$@" ;;
*) fail "say up, down or conformance" ;;
esac
