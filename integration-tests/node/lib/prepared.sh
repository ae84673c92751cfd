# Sourced by scripts that run a program of Node.js, with their folder in `here` and the program's file in `program`: turns to the root of
# the repository and installs the packages if the lock file has changed. If help is asked for, shows that of the program and ends.
cd "$here/../../.."
CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}
export CARGO_TARGET_DIR
cmp -s integration-tests/node/package-lock.json integration-tests/node/node_modules/.installed-from ||
    (cd integration-tests/node && npm ci --no-audit --no-fund --silent && cp package-lock.json node_modules/.installed-from)
case " $* " in *" --help "* | *" -h "*) exec node "$program" --help ;; esac
