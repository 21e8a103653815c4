#!/usr/bin/env bash
# Runs the demo with a Kafka broker of its own, which lives in a temporary directory and ends with
# it. Arguments go to the demo. `make demo-kafka` has built and installed what it needs.
set -euo pipefail
cd "$(dirname "$0")/.."
libs=build/kafka/libs
work=$(mktemp -d)
broker=

# End what was started here, whatever happens.
finish() {
    if [ -n "$broker" ]; then
        kill "$broker" 2>/dev/null || true
        wait "$broker" 2>/dev/null || true
    fi
    rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT TERM

accepts() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

free_port() { # not one of those given
    local port
    for port in $(shuf -i 20000-29999 -n 50); do
        [ "$port" != "${1-}" ] && ! accepts "$port" && echo "$port" && return
    done
    echo "demo-kafka: no free port from 20000 to 29999" >&2
    return 1
}

port=$(free_port)
controller=$(free_port "$port")
cat >"$work/server.properties" <<EOF
process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$controller
advertised.listeners=PLAINTEXT://127.0.0.1:$port
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
controller.quorum.bootstrap.servers=127.0.0.1:$controller
log.dirs=$work/log
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
offsets.topic.num.partitions=4
transaction.state.log.num.partitions=4
log.cleaner.dedupe.buffer.size=8388608
EOF

# A list, not a function: in the background a function would be a shell around the broker, and the
# shell alone would end.
java=(java -Xmx128m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp "$libs/*")

echo "starting Kafka on 127.0.0.1:$port" >&2
id=$("${java[@]}" kafka.tools.StorageTool random-uuid 2>/dev/null)
"${java[@]}" kafka.tools.StorageTool format -t "$id" -c "$work/server.properties" --standalone \
    >"$work/kafka.log" 2>&1 || { cat "$work/kafka.log" >&2; exit 1; }
"${java[@]}" kafka.Kafka "$work/server.properties" >>"$work/kafka.log" 2>&1 &
broker=$!
for _ in $(seq 300); do
    kill -0 "$broker" 2>/dev/null || { cat "$work/kafka.log" >&2; exit 1; }
    accepts "$port" && break
    sleep 0.1
done
target/release/headwater demo --kafka "127.0.0.1:$port" "$@"
