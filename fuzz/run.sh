#!/bin/sh
# Fuzzes one target for some minutes, on the stable toolchain: libFuzzer needs instrumented code, and what instruments it is stable.
#
# Usage: sh fuzz/run.sh TARGET [--minutes N]     a target is a folder of fuzz/corpus
# What is found stands in fuzz/corpus/TARGET afterwards: the ordinary tests replay it. Everything else that the fuzzer keeps goes to the target
# directory, and is used again.

set -eu

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
target=${1:-} minutes=1
if [ ! -d "$here/corpus/$target" ] || [ -z "$target" ]; then
    echo "Usage: sh fuzz/run.sh TARGET [--minutes N]; the targets are:" >&2
    ls "$here/corpus" >&2
    exit 2
fi
[ "${2:-}" != --minutes ] || minutes=${3:?minutes}

build="${FUZZ_TARGET_DIR:-$here/target}"
host=$(rustc -vV | sed -n 's/^host: //p')
instrumented="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4
 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table
 -Cllvm-args=-sanitizer-coverage-trace-compares -Cllvm-args=-simplifycfg-branch-fold-threshold=0 -Ccodegen-units=1"
# With --target, build scripts and macros are not instrumented.
RUSTFLAGS=$(echo "$instrumented" | tr '\n' ' ') cargo build --manifest-path "$here/Cargo.toml" --target-dir "$build" --target "$host"

kept="$build/corpus/$target"
mkdir -p "$kept"
FUZZ_TARGET=$target exec nice "$build/$host/debug/trunkline-fuzz" "$kept" "$here/corpus/$target" \
    -artifact_prefix="$here/corpus/$target/" -max_total_time=$((minutes * 60)) -timeout=10 -rss_limit_mb=2048 -max_len=16384
