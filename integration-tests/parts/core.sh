about="Rust tests of the crates that need no broker, and the examples in the documentation of all"
crates=""

prepare() {
    need_rust
}

run() {
    whole=0
    # shellcheck disable=SC2046 # several words are meant
    cargo_tests $(untested_elsewhere) || whole=1
    documentation_tests || whole=1
    return "$whole"
}

# The packages of the workspace that no other part tests.
untested_elsewhere() {
    elsewhere=" $(for other in $all_parts; do (. "$here/parts/$other.sh" && echo "$crates "); done | tr '\n' ' ') "
    for folder in $(sed -n '/^members = /,/^]/s/^ *"\(.*\)",$/\1/p' "$root/Cargo.toml"); do
        name=$(sed -n 's/^name = "\(.*\)"/\1/p' "$root/$folder/Cargo.toml" | head -n 1)
        listed "$name" "$elsewhere" || echo "$name"
    done
}
