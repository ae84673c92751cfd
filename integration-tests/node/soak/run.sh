#!/bin/sh
# Builds the test nodes and runs `soak.js` with the arguments given.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
cd "$here/../../.."
CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}
export CARGO_TARGET_DIR
cmp -s integration-tests/node/package-lock.json integration-tests/node/node_modules/.installed-from ||
    (cd integration-tests/node && npm ci --no-audit --no-fund --silent && cp package-lock.json node_modules/.installed-from)
case " $* " in *" --help "* | *" -h "*) exec node "$here/soak.js" --help ;; esac
cargo build -p trunkline-test-nodes
TEST_NODE=$CARGO_TARGET_DIR/debug/test-node
TEST_BROKER=$CARGO_TARGET_DIR/debug/test-broker
export TEST_NODE TEST_BROKER
exec node "$here/soak.js" "$@"
