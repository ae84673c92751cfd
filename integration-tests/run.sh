#!/bin/sh
# Sets up what the tests need, runs them part by part, and says what passed, failed and was skipped.
#
# A part is a file parts/NAME.sh. It is read in a subshell and defines
#   about    one line for --list
#   crates   the Rust packages that only this part tests (part `core` leaves them out); may be empty
#   prepare  installs or checks what the part needs; calls `because REASON` and fails when it cannot
#   run      runs the tests through the functions of lib/runners.sh, which count what the runner reports
# To add a part, add the file and its name to `all_parts`.

set -u

# In the order in which they run.
all_parts="core memory brokers redis mongodb postgres rabbitmq nats backends cli adapter faults hostile interop clients recipes balancers browser admin bench"

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
root=$(dirname -- "$here")
. "$here/lib/report.sh"
. "$here/lib/tools.sh"
. "$here/lib/runners.sh"

main() {
    only="" skip=""
    parse_arguments "$@"
    cd "$root" || exit 1
    logs="${CARGO_TARGET_DIR:-$root/target}/integration-tests"
    rm -rf "$logs" && mkdir -p "$logs" && logs=$(cd "$logs" && pwd) || exit 1
    trap 'stop_runner; exit 130' INT TERM
    # What fails on a full disk says little of the cause.
    free=$(df -Pk "$logs" | awk 'NR == 2 { print int($4 / 1048576) }')
    [ -n "$only" ] || [ "$free" -ge 8 ] || echo "run.sh: $free GB free in $logs; everything takes about 8 GB"

    began=$(date +%s)
    for part in $all_parts; do
        if listed "$part" "$skip"; then
            skip_part "$part" "left out by --skip"
        elif [ -z "$only" ] || listed "$part" "$only"; then
            run_part "$part"
        fi
    done
    report "$(($(date +%s) - began))"
}

parse_arguments() {
    while [ $# -gt 0 ]; do
        case $1 in
        --only) allow "${2-}" "$1" && only="$only $2" && shift ;;
        --skip) allow "${2-}" "$1" && skip="$skip $2" && shift ;;
        --list) list_parts && exit 0 ;;
        -h | --help) usage && exit 0 ;;
        *) refuse "unknown argument '$1' (see --help)" ;;
        esac
        shift
    done
}

usage() {
    cat <<TEXT
Usage: sh integration-tests/run.sh [--only PART]... [--skip PART]... [--list] [--help]

Sets up what the tests need and runs them. Without options: every part.

  --only PART   run this part; may be given several times
  --skip PART   leave this part out and list it as skipped; may be given several times
  --list        print the parts
  --help        print this text

Parts: $all_parts
Logs and screenshots: integration-tests/ in the target directory.
Packages that are missing are installed with apt-get, which needs root or sudo.
TEXT
}

list_parts() {
    for part in $all_parts; do
        (. "$here/parts/$part.sh" && printf '%-10s %s\n' "$part" "$about")
    done
}

# allow PART OPTION: ends the run unless PART exists.
allow() {
    [ -n "$1" ] || refuse "$2 needs the name of a part: $all_parts"
    listed "$1" "$all_parts" || refuse "$2: there is no part '$1'; the parts are: $all_parts"
}

refuse() {
    echo "run.sh: $1" >&2
    exit 2
}

# listed WORD LIST
listed() {
    case " $2 " in *" $1 "*) return 0 ;; esac
    return 1
}

main "$@"
