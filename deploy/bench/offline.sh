#!/usr/bin/env bash
# 1,000 lasting sessions are away while 1 million messages of QoS 1 come. How the gateway's memory
# grows meanwhile, and that each session finds its messages in order when it is back: three sessions
# are subscribed to all and get the million, the others share it, a thousand each.
#
#   deploy/bench/offline.sh [messages]    1000000 by default
#
# RETURNING (100): so many sessions come back, those with all messages among them; ALL=1: all do
set -euo pipefail
# shellcheck source=deploy/bench/lib.sh
. "$(dirname "$0")/lib.sh"

messages=${1:-1000000}
start_gateway
returning=(--returning "${RETURNING:-100}")
[ -z "${ALL-}" ] || returning=()
line=$("$load" offline --addr "$gateway_addr" --pid "$gateway" --messages "$messages" "${returning[@]}")
echo "offline: $line"
still_well
grew=$(field "$line" grew_mb)
row "1000 sessions away, $messages messages, RSS grows by MB" "$grew" \
    "$(field "$line" returned) came back, $(field "$line" delivered) in order" "$grew" "at most" 10
