#!/bin/sh
# Packages all crates below crates/ in the order of their dependencies, builds each from its package alone, and checks what is in it.
# Nothing is uploaded, and nothing may be uncommitted. Arguments are passed on to `cargo package`, for example `--no-verify`.
set -eu
cd "$(dirname -- "$0")/.."

fields="description documentation repository license readme rust-version keywords categories"
files="README.md LICENSE-MIT LICENSE-APACHE"
# Of a package, compressed. Captures and corpora of tests would be more.
most_bytes=250000

main() {
    names=$(for manifest in crates/*/Cargo.toml; do sed -n '/^name = /{s/.*"\(.*\)"/\1/p;q;}' "$manifest"; done)
    # Together: cargo then takes those that another one needs from here.
    # shellcheck disable=SC2046
    cargo package $(printf -- '--package %s ' $names) "$@"
    version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)
    failed=0
    for name in $names; do
        check "${CARGO_TARGET_DIR:-target}/package/$name-$version.crate" "$name-$version" || failed=1
    done
    return "$failed"
}

# check PACKAGE FOLDER: says what the package lacks, and what of it lies outside.
check() {
    lacks=""
    for file in $files; do
        tar -tf "$1" "$2/$file" >/dev/null 2>&1 || lacks="$lacks $file"
    done
    for field in $fields; do
        tar -xOf "$1" "$2/Cargo.toml" | grep -q "^$field = " || lacks="$lacks $field"
    done
    # Its doc tests run where nothing else of this repository is.
    outside=$(tar -xOf "$1" --wildcards "$2/src/*.rs" "$2/README.md" | grep -E 'include(_str|_bytes)?!\("\.\./\.\.' || :)
    bytes=$(wc -c <"$1")
    printf '%8s bytes  %s%s%s\n' "$bytes" "$2" "${lacks:+  lacks:$lacks}" "${outside:+  reaches outside: $outside}"
    [ -z "$lacks" ] && [ -z "$outside" ] && [ "$bytes" -le "$most_bytes" ]
}

main "$@"
