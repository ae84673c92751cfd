#!/bin/sh
# Builds the test nodes and runs `trunkline-faults` with the arguments given. FAULTS_PROFILE is `debug` (default) or `release`.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
cd "$here/../.."
CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}
export CARGO_TARGET_DIR
profile=${FAULTS_PROFILE:-debug}
case $profile in
debug) cargo build -p trunkline-faults -p trunkline-test-nodes ;;
release) cargo build --release -p trunkline-faults -p trunkline-test-nodes ;;
*) echo "FAULTS_PROFILE must be debug or release, not '$profile'" >&2 && exit 2 ;;
esac
exec "$CARGO_TARGET_DIR/$profile/trunkline-faults" "$@"
