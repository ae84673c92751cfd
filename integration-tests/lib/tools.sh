# Finding and installing what the parts need. Read by run.sh; expects $root, $here, $logs and, inside a part, $log.
#
# Each function returns at once when there is nothing to do, and calls `because` and fails when it can do nothing.

# The Rust toolchain: Cargo.toml states the oldest version that may be used.
need_rust() {
    PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin"
    wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$root/Cargo.toml")
    command -v cargo >/dev/null || install_rust "$wanted"
    found=$(cd "$root" && rustc --version 2>/dev/null | awk '{ print $2 }')
    if ! at_least "${found:-0}" "$wanted"; then
        because "needs Rust $wanted or newer, found ${found:-none}: install rustup, then 'rustup toolchain install stable'"
        return 1
    fi
    # Some dependencies compile C, and rustc links with cc.
    command -v cc >/dev/null || need_packages gcc libc6-dev
}

# Debian 13 and Ubuntu 24.04 package rustup. Elsewhere the version check that follows says what to do.
install_rust() {
    packaged rustup || return 1
    need_packages rustup && logged rustup toolchain install "$1" --profile minimal && rustup default "$1" >/dev/null 2>&1
}

# Node.js with npm, 20 or newer.
need_node() {
    command -v node >/dev/null || ! at_least "$(candidate nodejs)" 20 || need_packages nodejs npm
    found=$(node --version 2>/dev/null | tr -d v)
    if ! at_least "${found:-0}" 20; then
        because "needs Node.js 20 or newer with npm, found ${found:-none}: install it from nodejs.org or with a version manager"
        return 1
    fi
    command -v npm >/dev/null || need_packages npm
}

# The packages of node/package-lock.json, installed again only when that file has changed.
need_node_packages() {
    need_node || return 1
    installed="$here/node/node_modules/.installed-from"
    cmp -s "$here/node/package-lock.json" "$installed" && return 0
    echo "   npm ci"
    if ! (cd "$here/node" && logged npm ci --no-audit --no-fund); then
        because "npm ci failed in integration-tests/node"
        return 1
    fi
    cp "$here/node/package-lock.json" "$installed"
}

# Chromium in $CHROMIUM, one of the usual names, or the package.
need_chromium() {
    find_chromium || need_packages chromium || return 1
    need_packages fonts-liberation || return 1
    find_chromium && return 0
    because "no Chromium found: install it and set CHROMIUM to its path"
    return 1
}

find_chromium() {
    for name in "${CHROMIUM:-}" chromium chromium-browser google-chrome google-chrome-stable; do
        [ -n "$name" ] && CHROMIUM=$(command -v "$name") && export CHROMIUM && return 0
    done
    return 1
}

# Prometheus and promtool. The tests start an instance of their own.
need_prometheus() {
    need_packages prometheus && command -v promtool >/dev/null && return 0
    because "no Prometheus found: install prometheus and promtool"
    return 1
}

# need_packages NAME...: Debian packages; only those missing are installed.
need_packages() {
    missing=""
    for package in "$@"; do
        installed_package "$package" || missing="$missing $package"
    done
    [ -z "$missing" ] && return 0
    if ! as_root=$(root_command); then
        because "missing packages:$missing; run as root: apt-get install$missing"
        return 1
    fi
    echo "   apt-get install$missing"
    refresh_packages
    # shellcheck disable=SC2086 # several words are meant
    logged $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $missing && return 0
    because "apt-get install$missing failed"
    return 1
}

# Without dpkg (other distributions) the tools themselves are looked for later, so nothing counts as missing here.
installed_package() {
    command -v dpkg-query >/dev/null || return 0
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# Prints what has to stand before a command that needs root; fails if there is no way.
root_command() {
    [ "$(id -u)" -eq 0 ] && return 0
    command -v sudo >/dev/null || return 1
    # Without a terminal sudo could only wait for a password that nobody types.
    if [ -t 0 ]; then echo sudo; else sudo -n true 2>/dev/null && echo "sudo -n"; fi
}

# Once per run: the package lists of a fresh machine are empty or old.
refresh_packages() {
    [ -f "$logs/package-lists-are-fresh" ] && return 0
    # shellcheck disable=SC2086
    logged ${as_root-} apt-get update && : >"$logs/package-lists-are-fresh"
}

# candidate PACKAGE: the version apt would install, or 0.
candidate() {
    version=$(apt-cache policy "$1" 2>/dev/null | sed -n 's/^ *Candidate: \([0-9][^-+~]*\).*/\1/p')
    echo "${version:-0}"
}

packaged() {
    [ "$(candidate "$1")" != 0 ]
}

# at_least FOUND WANTED: compares versions number by number.
at_least() {
    [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]
}

logged() {
    echo "\$ $*" >>"$log"
    "$@" >>"$log" 2>&1 </dev/null
}
