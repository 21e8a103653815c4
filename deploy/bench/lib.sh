# What the benchmarks share: a gateway on the disk of the build, mosquitto without persistence beside
# it, and lines of the table. Sourced with `set -euo pipefail`.
#
# HEADWATER (target/release/headwater) LOAD (target/release/examples/mqtt_load)
# TABLE: a file to which the lines go too

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
headwater=${HEADWATER:-$root/target/release/headwater}
load=${LOAD:-$root/target/release/examples/mqtt_load}
export PATH=$PATH:/usr/sbin

for tool in "$headwater" "$load" "$(command -v mosquitto || echo mosquitto)"; do
    if ! [ -x "$tool" ]; then
        echo "$tool is missing: cargo build --release -p headwater --bins --examples;" \
            "apt-get install mosquitto" >&2
        exit 66
    fi
done

# On the disk of the build, not on a tmpfs, whose fdatasync costs nothing.
work=$(mktemp -d "$root/target/bench.XXXXXX")
gateway='' mosquitto=''
finish() {
    for pid in $gateway $mosquitto; do
        kill "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    rm -rf "$work"
}
trap finish EXIT

free_port() { # below those that the system gives to clients
    local port
    while :; do
        port=$((20000 + RANDOM % 12000))
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

# Files that this shell's brokers and clients may each have open.
open_files() { # count
    ulimit -n "$1" 2>/dev/null || [ "$(ulimit -n)" = unlimited ] || [ "$(ulimit -n)" -ge "$1" ] || {
        echo "$1 open files are needed, $(ulimit -Hn) allowed: raise the hard limit (ulimit -Hn)" >&2
        exit 77
    }
}

start_gateway() { # connections at most
    gateway_port=$(free_port) http_port=$(free_port)
    cat >"$work/headwater.toml" <<TOML
[gateway]
id = "bench"
data_dir = "$work/data"
[mqtt]
listen = "127.0.0.1:$gateway_port"
max_connections = ${1:-2000}
[http]
listen = "127.0.0.1:$http_port"
[log]
max_size = "1 GiB"
TOML
    "$headwater" run -c "$work/headwater.toml" >"$work/headwater.log" 2>&1 &
    gateway=$!
    wait_for "$gateway_port" "$gateway" "$work/headwater.log"
    gateway_addr=127.0.0.1:$gateway_port
    sleep 2
}

# As Debian ships it, but with nothing on disk.
start_mosquitto() {
    mosquitto_port=$(free_port)
    cat >"$work/mosquitto.conf" <<CONF
listener $mosquitto_port 127.0.0.1
allow_anonymous true
persistence false
log_dest none
CONF
    mosquitto -c "$work/mosquitto.conf" >"$work/mosquitto.log" 2>&1 &
    mosquitto=$!
    wait_for "$mosquitto_port" "$mosquitto" "$work/mosquitto.log"
    mosquitto_addr=127.0.0.1:$mosquitto_port
}

# The gateway is there and has not panicked.
still_well() {
    if ! kill -0 "$gateway" 2>/dev/null || grep -q panicked "$work/headwater.log"; then
        echo "the gateway did not stay well:" >&2
        tail -n 20 "$work/headwater.log" >&2
        exit 1
    fi
}

field() { # name=value... name
    sed -n "s/.*\<$2=\([-0-9.]*\).*/\1/p" <<<"$1"
}

calc() { awk "BEGIN { printf \"%.${2:-2}f\", $1 }"; }

median() { printf '%s\n' "$@" | sort -n | sed -n "$((($# + 1) / 2))p"; }

rss_mb() { awk -v field="$2:" '$1 == field { printf "%.1f", $2 * 1024 / 1e6 }' "/proc/$1/status"; }

# A counter of the gateway.
metric() { # name
    exec 3<>"/dev/tcp/127.0.0.1/$http_port"
    printf 'GET /metrics HTTP/1.0\r\n\r\n' >&3
    awk -v name="headwater_$1" '$1 == name { print $2 }' <&3
    exec 3>&-
}

# A line of the table: what, figure, beside, ratio or difference, "at least" or "at most", bar.
row() {
    local verdict=missed
    case $5 in
    "at least") awk "BEGIN { exit !($4 >= $6) }" && verdict=met ;;
    "at most") awk "BEGIN { exit !($4 <= $6) }" && verdict=met ;;
    esac
    printf '| %s | %s | %s | %s | %s %s | %s |\n' "$1" "$2" "$3" "$4" "$5" "$6" "$verdict" |
        tee -a "${TABLE:-/dev/null}"
}
