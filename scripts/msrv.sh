#!/bin/sh
# Checks all crates below crates/ with exactly the toolchain of `rust-version`. Where it is not installed and cannot be, says so and fails.
set -eu
cd "$(dirname -- "$0")/.."

version=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
toolchain=$(rustup toolchain list | sed -n "s/^\($version\(\.[0-9]*\)\{0,1\}-[^ ]*\).*/\1/p" | head -n 1)
if [ -z "$toolchain" ]; then
    rustup toolchain install "$version" --profile minimal --no-self-update || {
        echo "msrv: not checked: Rust $version is not installed and cannot be downloaded here" >&2
        echo "msrv: installed: $(rustup toolchain list | tr '\n' ' ')" >&2
        exit 1
    }
    toolchain=$version
fi
echo "msrv: $(rustc "+$toolchain" --version)"
for manifest in crates/*/Cargo.toml; do
    cargo "+$toolchain" check --manifest-path "$manifest" --all-features
done
