#!/bin/sh
# Licences, banned crates and sources of all dependencies (deny.toml), known vulnerabilities where their database can be reached, and
# dependencies that nothing uses. Installs cargo-deny and cargo-machete where they are missing, which takes minutes.
set -eu
cd "$(dirname -- "$0")/.."

command -v cargo-deny >/dev/null || cargo install --locked cargo-deny
command -v cargo-machete >/dev/null || cargo install --locked cargo-machete

cargo deny --all-features check licenses bans sources
if cargo deny fetch db; then
    cargo deny --all-features check advisories
else
    echo "audit: advisories not checked: their database cannot be reached from here" >&2
fi
cargo machete
