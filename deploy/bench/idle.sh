#!/usr/bin/env bash
# Memory for 10,000 connections that say nothing, and how long a connect takes beside them at 500 a
# second: the median of the p99 of each second, in turns with a mosquitto that holds none.
#
#   deploy/bench/idle.sh [connections]    10000 by default
#
# RATE (500) TURNS (8, of a second each)
set -euo pipefail
# shellcheck source=deploy/bench/lib.sh
. "$(dirname "$0")/lib.sh"

connections=${1:-10000}
open_files $((connections + 1000))
start_gateway $((connections + 1000))
start_mosquitto

run() { # address pid more
    "$load" idle --addr "$1" --pid "$2" --connections "$connections" --rate "${RATE:-500}" "${@:3}"
}
ours=$(run "$gateway_addr" "$gateway" --turns "${TURNS:-8}" --peer "$mosquitto_addr")
theirs=$(run "$mosquitto_addr" "$mosquitto" --turns 0)
echo "idle: headwater $ours"
echo "idle: mosquitto $theirs"
still_well
rss=$(field "$ours" rss_mb) p99=$(field "$ours" connect_p99_ms)
row "$connections idle connections, RSS MB" "$rss" "mosquitto $(field "$theirs" rss_mb)" \
    "$rss" "at most" 60
row "a connect beside them, ${RATE:-500}/s, p99 ms" "$p99" \
    "mosquitto $(field "$ours" peer_p99_ms)" "$p99" "at most" 2
