about="Rust tests of the crates that need no broker"
crates=""

prepare() {
    need_rust
}

run() {
    # shellcheck disable=SC2046 # several words are meant
    cargo_tests --workspace --all-features $(other_parts_crates | sed 's/^/--exclude /')
}

# What other parts test is left to them.
other_parts_crates() {
    for other in $all_parts; do
        (. "$here/parts/$other.sh" && for crate in $crates; do echo "$crate"; done)
    done
}
