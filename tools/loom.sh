#!/usr/bin/env bash
# Runs the loom models of the ring and the doorbell: every interleaving of a few operations, with the weak orders
# that the processor at hand may never show. Arguments select models by name, e.g. `tools/loom.sh no_wake`.
#
# --no-default-features: the models need none of the binary's dependencies. A target directory of its own, since
# `--cfg loom` rebuilds everything.
set -euo pipefail
cd "$(dirname "$0")/.."

export RUSTFLAGS="--cfg loom"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/loom"
# The models are bound by loom itself; fat LTO would only make the build slow.
export CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16

log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! cargo test --quiet --lib --release --no-default-features "ring::models::${1:-}" >"$log" 2>&1; then
    cat "$log" >&2
    exit 1
fi
summary=$(grep -E '^test result: ok\. [1-9][0-9]* passed' "$log") || { cat "$log" >&2; echo "loom: no model ran" >&2; exit 1; }
echo "loom: ${summary#test result: }"
