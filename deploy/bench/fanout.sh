#!/usr/bin/env bash
# Messages delivered a second, one publisher and 100 subscribers of its topic, QoS 0 and QoS 1,
# against mosquitto. The gateway delivers what is on disk.
#
#   deploy/bench/fanout.sh [pairs]        3 pairs by default
#
# SUBSCRIBERS (100) AHEAD (500) SECONDS_A_RUN (4)
set -euo pipefail
# shellcheck source=deploy/bench/lib.sh
. "$(dirname "$0")/lib.sh"

pairs=${1:-3}
subscribers=${SUBSCRIBERS:-100}
start_gateway
start_mosquitto

run() { # address qos
    "$load" fanout --addr "$1" --subscribers "$subscribers" --qos "$2" --ahead "${AHEAD:-500}" \
        --seconds "${SECONDS_A_RUN:-4}"
}

for qos in 0 1; do
    ours=() theirs=() ratios=()
    for pair in $(seq "$pairs"); do
        ours_line=$(run "$gateway_addr" "$qos")
        theirs_line=$(run "$mosquitto_addr" "$qos")
        echo "pair $pair, fan-out, QoS $qos: headwater $ours_line; mosquitto $theirs_line"
        [ "$(field "$ours_line" missed)" = 0 ] || { echo "messages are missing" >&2; exit 1; }
        ours+=("$(field "$ours_line" delivered_per_s)")
        theirs+=("$(field "$theirs_line" delivered_per_s)")
        ratios+=("$(calc "${ours[-1]} / ${theirs[-1]}")")
    done
    still_well
    row "fan-out, 1 to $subscribers, QoS $qos, delivered/s" "$(median "${ours[@]}")" \
        "mosquitto $(median "${theirs[@]}")" "$(median "${ratios[@]}")" "at least" 1
done
