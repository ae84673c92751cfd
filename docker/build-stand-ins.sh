#!/bin/sh
# Builds images from Debian packages under the names that compose.yml uses, for machines where those cannot be pulled.
#
#   docker/build-stand-ins.sh                 all of them
#   docker/build-stand-ins.sh redis           only this
#
# Needs a running Docker daemon, debootstrap and root. The versions are Debian's, not those of the names: these images are for exercising the
# compose file and the tests, not for anything else. MongoDB is in no Debian archive: its server is the one that the tests use, its shell
# comes from npm.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
base=debian:bookworm
mirror=${DEBIAN_MIRROR:-}

fail() {
    echo "build-stand-ins: $1" >&2
    exit 1
}

# The base image: pulled where that works, otherwise made from packages.
base_image() {
    docker image inspect "$base" >/dev/null 2>&1 && return 0
    command -v debootstrap >/dev/null || fail "there is no debootstrap; install it"
    [ "$(id -u)" = 0 ] || fail "debootstrap needs root"
    root=$(mktemp -d)
    trap 'rm -rf "$root"' EXIT
    # shellcheck disable=SC2086
    debootstrap --variant=minbase bookworm "$root" $mirror >"$root.log" 2>&1 || fail "debootstrap failed, see $root.log"
    rm -f "$root.log"
    # The sources of this machine, so that the packages come the same way.
    cp -a /etc/apt/sources.list /etc/apt/sources.list.d /etc/apt/apt.conf.d "$root/etc/apt/" 2>/dev/null || true
    tar -C "$root" -c . | docker import - "$base" >/dev/null
    rm -rf "$root"
    trap - EXIT
}

# The name that compose.yml gives to the image of a broker.
tag_of() {
    sed -n "/^  $1:\$/,/^\$/s/^    image: //p" "$here/compose.yml"
}

build() {
    [ -e "$here/stand-ins/$1.Dockerfile" ] || fail "there is no stand-in for '$1'"
    tag=$(tag_of "$1")
    [ -n "$tag" ] || fail "compose.yml has no image for '$1'"
    echo "build-stand-ins: $tag"
    context=$here/stand-ins
    [ "$1" != mongodb ] || mongodb_files
    docker build --network host -q -t "$tag" -f "$here/stand-ins/$1.Dockerfile" "$context"
    [ "$1" != mongodb ] || rm -rf "$context"
}

# Puts what the image of MongoDB is made of into a folder of its own.
mongodb_files() {
    mongod=${TRUNKLINE_MONGOD:-${XDG_CACHE_HOME:-$HOME/.cache}/trunkline/mongod}
    [ -x "$mongod" ] || fail "there is no mongod: set TRUNKLINE_MONGOD to its path, or let 'just test --only mongodb' fetch one"
    # mongosh needs Node.js 20.19 or newer, which Debian 12 has not.
    { command -v npm && command -v node; } >/dev/null || fail "there is no Node.js with npm, from which mongosh comes; install it"
    context=$(mktemp -d)
    trap 'rm -rf "$context"' EXIT
    cp "$mongod" "$context/mongod"
    cp "$(command -v node)" "$context/node"
    npm install --silent --no-fund --no-audit --prefix "$context/mongosh" mongosh@2.3.0 || fail "mongosh could not be installed with npm"
}

docker version >/dev/null 2>&1 || fail "no Docker daemon answers"
base_image
for broker in ${*:-redis postgres mongodb rabbitmq nats}; do
    build "$broker"
done
