#!/usr/bin/env bash
# Messages a second of the gateway, every one on disk when it is acknowledged, against mosquitto
# without persistence. Pairs of runs alternate, so that both meet the same machine.
#
#   deploy/bench/mqtt.sh [pairs]          3 pairs by default
#
# CONNECTIONS (50) WINDOW (20) QOS (1) PAYLOAD (64) SECONDS_A_RUN (5)
# HEADWATER (target/release/headwater) LOAD (target/release/examples/mqtt_load)
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
pairs=${1:-3}
connections=${CONNECTIONS:-50} window=${WINDOW:-20} qos=${QOS:-1} payload=${PAYLOAD:-64}
seconds=${SECONDS_A_RUN:-5}
headwater=${HEADWATER:-$root/target/release/headwater}
load=${LOAD:-$root/target/release/examples/mqtt_load}

for tool in "$headwater" "$load" "$(command -v mosquitto || echo mosquitto)"; do
    if ! [ -x "$tool" ]; then
        echo "$tool is missing: cargo build --release -p headwater --bins --examples;" \
            "apt-get install mosquitto" >&2
        exit 66
    fi
done

# On the disk of the build, not on a tmpfs, whose fdatasync costs nothing.
work=$(mktemp -d "$root/target/bench-mqtt.XXXXXX")
gateway='' mosquitto=''
finish() {
    for pid in $gateway $mosquitto; do
        kill "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    rm -rf "$work"
}
trap finish EXIT

free_port() {
    local port
    while :; do
        port=$((20000 + RANDOM % 20000))
        (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo "$port"; return; }
    done
}

wait_for() { # port pid log
    for _ in $(seq 100); do
        (: <"/dev/tcp/127.0.0.1/$1") 2>/dev/null && return
        kill -0 "$2" 2>/dev/null || break
        sleep 0.1
    done
    echo "no broker at port $1:" >&2
    tail -n 20 "$3" >&2
    exit 1
}

rss_kib() { awk -v field="$2:" '$1 == field { print $2 }' "/proc/$1/status"; }
mib() { awk -v kib="$1" 'BEGIN { printf "%.1f", kib / 1024 }'; }

gateway_port=$(free_port) http_port=$(free_port) mosquitto_port=$(free_port)
cat >"$work/headwater.toml" <<TOML
[gateway]
id = "bench"
data_dir = "$work/data"
[mqtt]
listen = "127.0.0.1:$gateway_port"
[http]
listen = "127.0.0.1:$http_port"
[log]
max_size = "1 GiB"
TOML
cat >"$work/mosquitto.conf" <<CONF
listener $mosquitto_port 127.0.0.1
allow_anonymous true
persistence false
log_dest none
CONF

"$headwater" run -c "$work/headwater.toml" >"$work/headwater.log" 2>&1 &
gateway=$!
mosquitto -c "$work/mosquitto.conf" >"$work/mosquitto.log" 2>&1 &
mosquitto=$!
wait_for "$gateway_port" "$gateway" "$work/headwater.log"
wait_for "$mosquitto_port" "$mosquitto" "$work/mosquitto.log"
sleep 2
idle=$(rss_kib "$gateway" VmRSS)

echo "QoS $qos, $payload B, $connections connections, window $window, $seconds s a run"
run() { # port
    "$load" --addr "127.0.0.1:$1" --connections "$connections" --window "$window" --qos "$qos" \
        --payload "$payload" --seconds "$seconds"
}
rate() { sed -n 's/.*messages_per_s=\([0-9]*\).*/\1/p' <<<"$1"; }

ratios=()
for pair in $(seq "$pairs"); do
    ours=$(run "$gateway_port")
    theirs=$(run "$mosquitto_port")
    ratio=$(awk -v a="$(rate "$ours")" -v b="$(rate "$theirs")" 'BEGIN { printf "%.2f", a / b }')
    ratios+=("$ratio")
    echo "pair $pair  headwater (on disk)       $ours"
    echo "        mosquitto (in memory)     $theirs"
    echo "        ratio $ratio"
done
median=$(printf '%s\n' "${ratios[@]}" | sort -n | sed -n "$(((${#ratios[@]} + 1) / 2))p")
echo "ratio (median of $pairs): $median"
echo "RSS of the gateway: idle $(mib "$idle") MiB, under load at most" \
    "$(mib "$(rss_kib "$gateway" VmHWM)") MiB"
