#!/usr/bin/env bash
# Every benchmark of the front door, bounded, and one table at the end. About ten minutes.
set -euo pipefail
cd "$(dirname "$0")"

TABLE=$(mktemp)
export TABLE
trap 'rm -f "$TABLE"' EXIT
failed=()
run() { "$@" || failed+=("$*"); }

BAR=1.5 run ./publish.sh
WINDOW=200 BAR=5 run ./publish.sh
CONNECTIONS=1 WINDOW=100 BAR=1 run ./publish.sh
QOS=0 BAR=3 run ./publish.sh
run ./window1.sh
run ./fanout.sh
run ./beside.sh
run ./idle.sh
run ./churn.sh
run ./offline.sh
run ./malformed.sh

printf '\n| what | figure | beside | ratio, or what the bar is for | bar | |\n|---|---|---|---|---|---|\n'
cat "$TABLE"
[ ${#failed[@]} -eq 0 ] || { printf 'did not run to its end: %s\n' "${failed[@]}" >&2; exit 1; }
