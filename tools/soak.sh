#!/usr/bin/env bash
# Lets a server run for half an hour under churn, and looks at its memory: publishers die and come back, visitors join
# and leave, one viewer of twenty reads too slowly. At the end the resident memory must be where it was after the first
# fifth of the time, and the audit trail complete.
#
#   tools/soak.sh [MINUTES]      30 by default; needs ffmpeg
set -euo pipefail
cd "$(dirname "$0")/.."

minutes=${1:-30}
viewers=200 churn=20 encoders=4
# Kilobytes by which the resident memory may be more than at the beginning: the allocator's unused pages.
slack_kb=4096

dir=$(mktemp -d)
trap 'trap - EXIT; pkill -P $$ || true; wait || true; rm -rf "$dir"' EXIT

main() {
    command -v ffmpeg >/dev/null || { echo "soak: ffmpeg is not installed" >&2 && exit 1; }
    cargo build --release --locked --all-features --quiet
    local program=target/release/shardcast port server
    port=$(free_port)
    cat >"$dir/soak.toml" <<CONFIG
[[app]]
name = "*"
republish_grace = "20s"
absent = "wait 20s"
conflict = "backup"
CONFIG
    "$program" serve --rtmp "127.0.0.1:$port" --config "$dir/soak.toml" --open --shards 2 --data "$dir" \
        --control "$dir/control" --log warn >"$dir/server.log" 2>&1 &
    server=$!
    sleep 1
    ffmpeg -v error -f lavfi -i testsrc2=size=320x180:rate=25 -f lavfi -i sine=440 -t 10 -c:v libx264 -preset ultrafast \
        -g 25 -c:a aac "$dir/clip.flv"
    for n in $(seq "$encoders"); do
        encoder "rtmp://127.0.0.1:$port/live/s$n" &
    done
    timeout $((minutes * 60 + 300)) "$program" bench relay --quiet --target "rtmp://127.0.0.1:$port/bench#$server" \
        --repetitions 1 --streams 2 --players $((viewers / 2)) --churn "$churn" --slow 5%:trickling --keep-invalid \
        --check-every 10 --bitrate 800 --duration "${minutes}m" >"$dir/load.log" 2>&1 &
    local load=$!

    local samples=0 resident
    while kill -0 "$load" 2>/dev/null; do
        sleep 10
        resident=$(awk '/^VmRSS/ {print $2}' "/proc/$server/status") || break
        echo "$resident" >>"$dir/resident"
        if ((samples++ % 12 == 0)); then
            echo "$((samples / 6)) min: $resident kB"
        fi
    done
    kill -0 "$server" || { tail "$dir/server.log" && echo "soak: the server is gone" >&2 && exit 1; }
    cat "$dir/load.log"
    "$program" top --control "$dir/control" --once --json >"$dir/top.json"
    cat "$dir/server.log"
    judge
}

# One encoder after the other: each is killed in the midst of its stream.
encoder() {
    while true; do
        timeout --signal KILL $((5 + RANDOM % 25)) \
            ffmpeg -v quiet -re -stream_loop -1 -i "$dir/clip.flv" -c copy -f flv "$1" || true
        sleep $((RANDOM % 3))
    done 2>/dev/null
}

judge() {
    python3 - "$dir/resident" "$dir/top.json" "$slack_kb" <<'PYTHON'
import json, statistics, sys
resident = [int(line) for line in open(sys.argv[1])]
audit = json.load(open(sys.argv[2]))["audit"]
fifth = max(1, len(resident) // 5)
early = statistics.median(resident[fifth:2 * fifth])
late = statistics.median(resident[-fifth:])
print(f"resident: {early:.0f} kB in the second fifth of the time, {late:.0f} kB in the last, {max(resident)} kB at most")
print(f"audit: {audit['attempted']} records attempted, {audit['written']} written, {audit['lost']} lost")
if late > early + int(sys.argv[3]):
    sys.exit("soak: memory grows")
if audit["attempted"] != audit["written"] + audit["lost"] or audit["lost"] > 0:
    sys.exit("soak: the trail is not complete")
PYTHON
}

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

main
