about="the chat page in headless Chromium on two nodes"
crates=""

prepare() {
    need_rust && need_node_packages && need_chromium && cargo_build trunkline
}

run() {
    CHAT="$(target_directory)/debug/examples/chat"
    SCREENSHOTS="$logs/screenshots"
    export CHAT SCREENSHOTS
    mkdir -p "$SCREENSHOTS"
    node_tests browser
}
