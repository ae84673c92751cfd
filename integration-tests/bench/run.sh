#!/bin/sh
# Builds everything that is measured and runs `trunkline-bench` with the arguments given.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
cd "$here/../.."
CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}
export CARGO_TARGET_DIR
cargo build --release -p trunkline-bench
cargo build --release --manifest-path integration-tests/bench/peers/Cargo.toml
(cd integration-tests/node && npm ci --no-audit --no-fund --silent)
exec "$CARGO_TARGET_DIR/release/trunkline-bench" "$@"
