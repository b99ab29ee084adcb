#!/usr/bin/env bash
# The same load over sockets on other servers: `shardcast bench relay` on shardcast, on nginx-rtmp where it is
# installed, and on servers of yours that run already (SRS, ZLMediaKit, MediaMTX, …), in turns; prints one table.
#
#   tools/peers/relay.sh                                          shardcast, nginx-rtmp, and the floor
#   tools/peers/relay.sh --target rtmp://10.0.0.7/live            and this server
#   tools/peers/relay.sh --target 'rtmp://127.0.0.1:1936/live#4711'
#                                    and this one with its CPU time and memory: 4711 is the id of its process
#   tools/peers/relay.sh --size smoke --players 1000 --json relay.json
#                                    every option of `shardcast bench relay`: its --help tells how to read the figures
#
# A server of yours has to pass on what is published to it under any name, and has nothing else to do meanwhile. One
# on this machine belongs on the core that shardcast is given (`taskset -c 0 …`): it competes with the generator
# otherwise, and neither figure is worth anything.
set -euo pipefail
cd "$(dirname "$0")/../.."

case ${1:-} in
-h | --help)
    sed -n '2,/^set/s/^# \{0,1\}//p' "$0"
    exit
    ;;
esac

options=("$@")
# Beside a target, shardcast is measured only where it is asked for.
if [[ " $* " != *" --shards"* ]]; then
    options+=(--shards 1)
fi
if [[ " $* " == *" --peer"* ]]; then
    :
elif nginx -v 2>/dev/null && [[ -e /usr/lib/nginx/modules/ngx_rtmp_module.so ]]; then
    options+=(--peer nginx)
else
    echo "SKIPPED: nginx-rtmp is not installed (Debian: nginx libnginx-mod-rtmp)" >&2
fi

cargo build --release --quiet --locked --bin shardcast
exec "${CARGO_TARGET_DIR:-target}/release/shardcast" bench relay "${options[@]}"
