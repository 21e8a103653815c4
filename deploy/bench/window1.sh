#!/usr/bin/env bash
# One connection, one message in flight: from PUBLISH to PUBACK, in turns with one write and one
# fdatasync of as many bytes on a zero-filled file on the same disk.
#
#   deploy/bench/window1.sh [messages]    3000 by default
set -euo pipefail
# shellcheck source=deploy/bench/lib.sh
. "$(dirname "$0")/lib.sh"

start_gateway
run() { # messages bytes
    "$load" window1 --addr "$gateway_addr" --messages "$1" --bytes "$2" --file "$work/floor"
}

# Bytes of a message in the log: topic, client and times are with it.
counts() { echo "$(metric journal_bytes_asked_total) $(metric journal_records_total)"; }
read -r bytes_before records_before <<<"$(counts)"
run 200 256 >/dev/null
read -r bytes_after records_after <<<"$(counts)"
bytes=$(calc "($bytes_after - $bytes_before) / ($records_after - $records_before)" 0)

line=$(run "${1:-3000}" "$bytes")
echo "window 1: $line"
still_well
row "1 connection, window 1, p50 ms" "$(field "$line" p50_ms)" \
    "write of $bytes B and fdatasync $(field "$line" floor_p50_ms)" \
    "$(field "$line" over_ms)" "at most" 0.5
