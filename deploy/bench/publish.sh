#!/usr/bin/env bash
# Messages a second of the gateway, every one on disk when it is acknowledged, against mosquitto
# without persistence. Pairs of runs alternate, so that both meet the same machine.
#
#   deploy/bench/publish.sh [pairs]       3 pairs by default
#
# CONNECTIONS (50) WINDOW (20) QOS (1) PAYLOAD (64) SECONDS_A_RUN (4) BAR (1.5)
set -euo pipefail
# shellcheck source=deploy/bench/lib.sh
. "$(dirname "$0")/lib.sh"

pairs=${1:-3}
connections=${CONNECTIONS:-50} window=${WINDOW:-20} qos=${QOS:-1} payload=${PAYLOAD:-64}
start_gateway
start_mosquitto

run() { # address
    "$load" publish --addr "$1" --connections "$connections" --window "$window" --qos "$qos" \
        --payload "$payload" --seconds "${SECONDS_A_RUN:-4}"
}

what="QoS $qos, $payload B, $connections connections"
[ "$qos" = 0 ] || what+=", window $window"
ours=() theirs=() ratios=()
for pair in $(seq "$pairs"); do
    ours_line=$(run "$gateway_addr")
    theirs_line=$(run "$mosquitto_addr")
    echo "pair $pair, $what: headwater (on disk) $ours_line; mosquitto (in memory) $theirs_line"
    ours+=("$(field "$ours_line" messages_per_s)")
    theirs+=("$(field "$theirs_line" messages_per_s)")
    ratios+=("$(calc "${ours[-1]} / ${theirs[-1]}")")
done
still_well
echo "RSS of the gateway under it: at most $(rss_mb "$gateway" VmHWM) MB"
row "$what, messages/s" "$(median "${ours[@]}")" "mosquitto $(median "${theirs[@]}")" \
    "$(median "${ratios[@]}")" "at least" "${BAR:-1.5}"
