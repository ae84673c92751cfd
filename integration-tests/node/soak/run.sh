#!/bin/sh
# Builds the test nodes and runs `soak.js` with the arguments given.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
program=$here/soak.js
. "$here/../lib/prepared.sh"
cargo build -p trunkline-test-nodes
TEST_NODE=$CARGO_TARGET_DIR/debug/test-node
TEST_BROKER=$CARGO_TARGET_DIR/debug/test-broker
export TEST_NODE TEST_BROKER
exec node "$program" "$@"
