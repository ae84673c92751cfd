about="the conformance suite on the memory transport"
crates="trunkline-conformance"

prepare() {
    need_rust
}

run() {
    cargo_tests trunkline-conformance
}
