#!/usr/bin/env bash
# Everything that must hold before a change goes in: `tools/ci.sh`. Arguments select steps by name, for example
# `tools/ci.sh fmt clippy`; `tools/ci.sh --list` shows the names.
#
# Prints one line per step; the full output of each is in target/ci/. Stops at the first step that fails and shows
# the end of its output. Tests that need a tool which is not installed skip loudly, and fail where CI is set;
# `.ci/run` installs the tools.
set -euo pipefail
cd "$(dirname "$0")/.."

# The lints' settings lie in tools/, not at the top level.
export CLIPPY_CONF_DIR=$PWD/tools
export CARGO_TERM_COLOR=never
logs=${CARGO_TARGET_DIR:-target}/ci
# No step may hang: all of them together stay far below this.
limit=40m

wanted=() listing=''

main() {
    case ${1:-} in
    --list)
        listing=yes
        steps
        exit
        ;;
    --clippy)
        clippy
        exit
        ;;
    --peers)
        peers
        exit
        ;;
    esac
    wanted=("$@")
    mkdir -p "$logs"
    rm -f "$logs"/*.log
    steps
    finish
}

steps() {
    step fmt cargo fmt --check
    step clippy tools/ci.sh --clippy
    step doc env RUSTDOCFLAGS="-D warnings" cargo doc --quiet --locked --no-deps --all-features
    # Unit, property, simulation and hostile-input tests, the tree's own rules, and real clients against the binary.
    step test cargo test --locked --all-features
    # The small size of each bench, so that none rots. `--benches` would run the unit tests a second time.
    step benches cargo test --locked --all-features --bench "*" --if benches
    # Instructions of the hot functions against those written down.
    step callgrind tools/callgrind.sh --if tools/callgrind.sh --unless-missing "valgrind --version"
    # The smallest size of the comparison with other libraries, which are no dependencies of shardcast.
    step peers tools/ci.sh --peers --if tools/peers/Cargo.toml
    step loom tools/loom.sh --if tools/loom.sh
    step tsan tools/tsan.sh --if tools/tsan.sh --unless-missing "cargo +nightly --version"
    step deny cargo deny --locked --config tools/deny.toml check bans licenses sources \
        --unless-missing "cargo deny --version"
}

# Each feature alone, none, the default ones and all: a feature must not lean on another by accident.
clippy() {
    local feature
    for feature in $(features); do
        lint --no-default-features --features "$feature"
    done
    lint --no-default-features
    lint
    lint --all-features
    if [[ -e tools/peers/Cargo.toml ]]; then
        CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target} lint --manifest-path tools/peers/Cargo.toml
    fi
}

lint() {
    echo "== cargo clippy --all-targets $*"
    cargo clippy --quiet --locked --all-targets "$@" -- -D warnings
}

# Its package stands apart; what the tests here have built is built for it, too.
peers() {
    export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}
    local manifest=(--manifest-path tools/peers/Cargo.toml)
    cargo fmt --check "${manifest[@]}"
    cargo test --quiet --locked "${manifest[@]}"
}

features() {
    awk '/^\[/ { inside = $0 == "[features]" } inside && /^[a-z0-9_-]+ *=/ && $1 != "default" { print $1 }' Cargo.toml
}

# step NAME COMMAND… [--if PATH] [--unless-missing COMMAND]: runs a command, quietly unless it fails. It is skipped
# without PATH, or if the second command does not work here.
step() {
    local name=$1 command=() path='' probe=true
    shift
    while (($#)); do
        case $1 in
        --if) path=$2 && shift ;;
        --unless-missing) probe=$2 && shift ;;
        *) command+=("$1") ;;
        esac
        shift
    done

    if [[ -n $listing ]]; then
        echo "$name"
    elif ((${#wanted[@]})) && [[ " ${wanted[*]} " != *" $name "* ]]; then
        :
    elif [[ -n $path && ! -e $path ]]; then
        line "$name" skipped "$path is not there"
    elif ! $probe >/dev/null 2>&1; then
        line "$name" skipped "'$probe' does not work here"
    else
        run "$name" "${command[@]}"
    fi
}

run() {
    local name=$1 log=$logs/$1.log start=$SECONDS status=0
    shift
    timeout --foreground "$limit" "$@" >"$log" 2>&1 || status=$?
    if ((status == 0)); then
        line "$name" ok "$((SECONDS - start)) s"
        grep --no-messages '^SKIPPED' "$log" || true
        return
    fi
    line "$name" FAILED "status $status after $((SECONDS - start)) s"
    echo
    echo "The end of $log:"
    tail -n 80 "$log"
    echo
    echo "FAILED: $name"
    exit 1
}

line() {
    printf '%-9s %-8s %s\n' "$1" "$2" "$3"
}

finish() {
    if [[ -f $logs/test.log ]]; then
        echo
        echo "cargo test:"
        grep -E '^ +(Running|Doc-tests)|^test result:' "$logs/test.log"
    fi
    echo
    echo "All steps passed in $((SECONDS / 60)) min $((SECONDS % 60)) s."
}

main "$@"
