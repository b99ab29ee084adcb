#!/usr/bin/env bash
# Runs the ring's stress tests under ThreadSanitizer, with real threads and a million messages. Needs the nightly
# toolchain. With its component rust-src the standard library is instrumented too; without, only our side is, which
# is what the ring is made of.
#
# ThreadSanitizer does not understand fences. The ring has none; the doorbell's only decides about a wake, never
# about whose turn a slot is.
set -euo pipefail
cd "$(dirname "$0")/.."

# A target of its own also keeps build scripts and procedural macros uninstrumented.
host=$(rustc +nightly --version --verbose | sed -n 's/^host: //p')
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/tsan"
export RUSTFLAGS="-Zsanitizer=thread"
std=()
if [[ -d "$(rustc +nightly --print sysroot)/lib/rustlib/src/rust/library" ]]; then
    std=(-Zbuild-std)
else
    # The shipped standard library was built without the sanitizer.
    RUSTFLAGS+=" -Cunsafe-allow-abi-mismatch=sanitizer"
fi

log=$(mktemp)
suppressions=$(mktemp)
trap 'rm -f "$log" "$suppressions"' EXIT
# The channel by which the test harness learns that a test is over orders by a fence, in the shipped library.
printf 'race:%s\n' 'test::event::CompletedTest' 'std::sync::mpmc' >"$suppressions"
export TSAN_OPTIONS="halt_on_error=1 suppressions=$suppressions ${TSAN_OPTIONS:-}"

if ! cargo +nightly test --quiet "${std[@]}" --target "$host" --lib --no-default-features \
    "ring::tests::${1:-stress}" -- --test-threads=1 >"$log" 2>&1; then
    cat "$log" >&2
    exit 1
fi
summary=$(grep -E '^test result: ok\. [1-9][0-9]* passed' "$log") || { cat "$log" >&2; echo "tsan: no test ran" >&2; exit 1; }
echo "tsan: ${summary#test result: }"
