#!/usr/bin/env bash
# What subscribers of other topics cost publishers: the publishers' rate beside them, in turns with
# their rate alone.
#
#   deploy/bench/beside.sh [turns]        5 of each by default
#
# SUBSCRIBERS (100) CONNECTIONS (10) WINDOW (20) QOS (1) SECONDS_A_RUN (3)
set -euo pipefail
# shellcheck source=deploy/bench/lib.sh
. "$(dirname "$0")/lib.sh"

start_gateway
line=$("$load" beside --addr "$gateway_addr" --subscribers "${SUBSCRIBERS:-100}" \
    --connections "${CONNECTIONS:-10}" --window "${WINDOW:-20}" --qos "${QOS:-1}" \
    --seconds "${SECONDS_A_RUN:-3}" --turns "${1:-5}")
echo "beside: $line"
still_well
row "QoS ${QOS:-1}, ${CONNECTIONS:-10} publishers beside $(field "$line" subscribers) subscribers of other topics, messages/s" \
    "$(field "$line" beside_per_s)" "alone: $(field "$line" alone_per_s)" \
    "$(field "$line" ratio)" "at least" 0.9
