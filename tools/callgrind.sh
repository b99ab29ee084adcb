#!/usr/bin/env bash
# Counts the instructions of the hot functions (benches/instructions/) and compares them with tools/callgrind.baseline.
# One that takes over 3 % more or less than it did fails, by name: less, too, is to be written down, or the next
# change could take it back unseen. `tools/callgrind.sh --update` writes the baseline anew, on purpose; names after it,
# or without it, select functions.
#
# Valgrind executes the release build on a processor of its own making, the same on every x86-64 machine with AVX2, so
# neither load nor the machine's cache matters. What does is the compiler: the baseline says which one it was. There is
# no runner to install, and each function has a process of its own, so that none meets the heap that another left.
set -euo pipefail
cd "$(dirname "$0")/.."

baseline=tools/callgrind.baseline
outputs=${CARGO_TARGET_DIR:-target}/callgrind
# In thousandths.
tolerance=30

update='' selected=()
for argument in "$@"; do
    case $argument in
    --update) update=yes ;;
    -*) echo "callgrind: unknown option $argument" >&2 && exit 2 ;;
    *) selected+=("$argument") ;;
    esac
done

main() {
    local program names name
    if [[ $(uname -m) != x86_64 ]]; then
        echo "SKIPPED: the baseline was counted on x86_64, this is $(uname -m)"
        return
    fi
    mkdir -p "$outputs"
    program=$(build)
    names=$("$program" names)
    for name in "${selected[@]}"; do
        grep -qx "$name" <<<"$names" || { echo "callgrind: no function is named $name" >&2 && exit 2; }
    done
    for name in $names; do
        if ((!${#selected[@]})) || [[ " ${selected[*]} " == *" $name "* ]]; then
            echo "$name $(instructions "$program" "$name")"
        fi
    done >"$outputs/counted"
    if [[ -n $update ]]; then
        write_baseline
    else
        compare
    fi
}

# Prints the path of the program.
build() {
    local built
    built=$(cargo build --release --locked --quiet --no-default-features --features rtmp --bench instructions \
        --message-format json-render-diagnostics)
    sed -n 's/.*"executable":"\([^"]*instructions[^"]*\)".*/\1/p' <<<"$built" | tail -n 1
}

# Instructions of one function, each time that it is done. Without an environment, since its length would move the
# stack, and copies depend on how what they copy is aligned.
instructions() {
    local program=$1 name=$2 log=$outputs/$2.log times collected
    times=$(env -i "$(command -v valgrind)" --tool=callgrind --callgrind-out-file="$outputs/$name.out" \
        --collect-atstart=no --toggle-collect='*count_instructions_of*' "$program" "$name" 2>"$log") ||
        { cat "$log" >&2 && exit 1; }
    collected=$(sed -n 's/^==.*Collected : \([0-9]*\)$/\1/p' "$log")
    if [[ -z $collected ]] || ((collected < times)); then
        cat "$log" >&2
        echo "callgrind: nothing of $name was counted" >&2
        exit 1
    fi
    echo $((collected / times))
}

# What the counts depend on besides our code, one a line.
counted_with() {
    rustc --version
    valgrind --version
    ldd --version | sed -n '1s/.* /glibc /p'
}

write_baseline() {
    local kept=''
    if ((${#selected[@]})); then
        kept=$(grep -v '^#' "$baseline" | grep -vwE "$(join '|' "${selected[@]}")")
    fi
    {
        echo "# Instructions of each function of benches/instructions/, written by tools/callgrind.sh --update with"
        counted_with | sed 's/^/# /'
        { [[ -z $kept ]] || echo "$kept"; cat "$outputs/counted"; } | sort
    } >"$outputs/baseline"
    diff "$baseline" "$outputs/baseline" | grep '^[<>]' || true
    mv "$outputs/baseline" "$baseline"
}

compare() {
    local status=0
    awk -v tolerance="$tolerance" -v partly="${#selected[@]}" '
        FNR == NR { if ($1 != "#") was[$1] = $2; next }
        {
            name = $1; now = $2
            if (!(name in was)) { print name ": " now " instructions, and no baseline"; wrong = 1; next }
            before = was[name]; delete was[name]
            change = (now - before) * 100 / before
            far = now * 1000 > before * (1000 + tolerance) || now * 1000 < before * (1000 - tolerance)
            printf "%-16s %8d instructions, baseline %8d, %+.1f %%%s\n", name, now, before, change, far ? "  FAILED" : ""
            wrong = wrong || far
        }
        END {
            if (!partly) for (name in was) { print name ": in the baseline, but not counted"; wrong = 1 }
            exit wrong
        }' "$baseline" "$outputs/counted" || status=$?
    if ((status)); then
        echo
        if ! diff <(sed -n 's/^# //p' "$baseline" | tail -n +2) <(counted_with) >"$outputs/differs"; then
            echo "Note that the baseline was counted with other tools ('<'; '>' are those here), which alone can do this:"
            grep '^[<>]' "$outputs/differs"
        fi
        echo "Where they are spent:    callgrind_annotate $outputs/NAME.out"
        echo "If the change is meant:  tools/callgrind.sh --update"
    fi
    return "$status"
}

join() {
    local IFS=$1
    shift
    echo "$*"
}

main
