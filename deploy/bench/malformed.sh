#!/usr/bin/env bash
# Broken packets from 200 connections a second, and what they cost ten publishers beside them: their
# rate, in turns, beside broken packets, beside the same packets whole, and alone.
#
#   deploy/bench/malformed.sh [turns]     15 of each by default
#
# RATE (200) SEED (1)
set -euo pipefail
# shellcheck source=deploy/bench/lib.sh
. "$(dirname "$0")/lib.sh"

start_gateway
line=$("$load" malformed --addr "$gateway_addr" --pid "$gateway" --connections 10 --seconds 0.8 \
    --rate "${RATE:-200}" --turns "${1:-15}" --seed "${SEED:-1}")
echo "malformed: $line"
still_well
# Whoever comes afterwards is served.
"$load" connects --addr "$gateway_addr" --rate 100 --turns 1 >/dev/null
row "rate beside $(field "$line" broken_connections) broken connections" \
    "peak $(field "$line" peak_mb) MB RSS" \
    "to that without: $(field "$line" ratio_to_none)" \
    "$(field "$line" ratio_to_whole)" "at least" 0.95
