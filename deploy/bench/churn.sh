#!/usr/bin/env bash
# 100,000 clients that come once, each with an id, a filter and a topic of its own, and what memory
# stays taken; mosquitto beside it.
#
#   deploy/bench/churn.sh [connects]      100000 by default
set -euo pipefail
# shellcheck source=deploy/bench/lib.sh
. "$(dirname "$0")/lib.sh"

connects=${1:-100000}
start_gateway
start_mosquitto
ours=$("$load" churn --addr "$gateway_addr" --pid "$gateway" --connects "$connects")
theirs=$("$load" churn --addr "$mosquitto_addr" --pid "$mosquitto" --connects "$connects")
echo "churn: headwater $ours"
echo "churn: mosquitto $theirs"
still_well
grew=$(field "$ours" grew_mb)
row "$connects clients that come once, RSS grows by MB" "$grew" \
    "mosquitto $(field "$theirs" grew_mb)" "$grew" "at most" 5
