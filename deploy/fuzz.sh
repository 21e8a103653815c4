#!/usr/bin/env bash
# Builds the fuzz targets of log-lite/fuzz with the coverage that libFuzzer follows, and runs them,
# each from its corpus and from what earlier runs here have found (build/fuzz). Stable Rust will do:
# the code is safe, so there is nothing that only a sanitizer would find.
# Usage: deploy/fuzz.sh [-t SECONDS] [-j JOBS] [-s SEED -r RUNS] [target ...]    all targets, if none
# is named; with a seed the same inputs each time
#        deploy/fuzz.sh -k [target ...]    keeps, of all inputs found, the few that reach all code
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
fuzz=$root/log-lite/fuzz
found=$root/build/fuzz
time_s=60 jobs=1 action=run seed=0 runs=-1
while getopts t:j:s:r:k option; do
    case $option in
    t) time_s=$OPTARG ;;
    j) jobs=$OPTARG ;;
    s) seed=$OPTARG ;;
    r) runs=$OPTARG ;;
    k) action=keep ;;
    *) exit 2 ;;
    esac
done
shift $((OPTIND - 1))
if [ $# -eq 0 ]; then
    for target in "$fuzz"/fuzz_targets/*.rs; do set -- "$@" "$(basename "$target" .rs)"; done
fi

host=$(rustc -vV | sed -n 's/^host: //p')
binaries=$root/target/fuzz/$host/release
# What an input may cost; more is a finding like any other.
limits=(-timeout=10 -rss_limit_mb=512 -malloc_limit_mb=64 -max_len=4096)

# The flags that cargo-fuzz gives. With --target they do not reach what runs while building.
build() {
    local flags=(-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4
        -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
        -Cllvm-args=-sanitizer-coverage-pc-table
        -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1)
    RUSTFLAGS="${flags[*]}" cargo build --locked --release --manifest-path "$fuzz/Cargo.toml" \
        --target "$host" --target-dir "$root/target/fuzz" --bins
}

run() { # target
    local target=$1 log=$found/$1.log
    mkdir -p "$found/$target" "$found/failed" "$fuzz/corpus/$target"
    if "$binaries/$target" "${limits[@]}" -max_total_time="$time_s" -seed="$seed" -runs="$runs" \
        -print_final_stats=1 \
        -artifact_prefix="$found/failed/$target-" \
        "$found/$target" "$fuzz/corpus/$target" >"$log" 2>&1; then
        awk -v target="$target" '
            / cov: / { for (i = 1; i < NF; i++) if ($i == "cov:") now = $(i + 1) }
            /INITED/ { first = now }
            /number_of_executed_units/ { runs = $2 }
            /peak_rss_mb/ { rss = $2 }
            END { printf "%-14s %9d runs   %5d edges, %5d of them at the start   %4d MB\n",
                  target, runs, now, first, rss }' "$log"
        return
    fi
    local input
    input=$(sed -n 's/.*Test unit written to //p' "$log" | tail -n1)
    tail -n 40 "$log" >&2
    echo "FAILED: $target. To see it again: $binaries/$target ${input:-FILE}" >&2
    echo "Once it passes, keep the input: cp ${input:-FILE} $fuzz/corpus/$target/" >&2
    return 1
}

keep() { # target
    local corpus=$fuzz/corpus/$1 fresh=$found/$1.kept
    rm -rf "$fresh"
    mkdir -p "$fresh" "$corpus" "$found/$1"
    "$binaries/$1" "${limits[@]}" -set_cover_merge=1 -use_counters=0 "$fresh" "$corpus" "$found/$1" \
        >"$found/$1.log" 2>&1 || { tail -n 20 "$found/$1.log" >&2; return 1; }
    # Those with a name were findings once, and stay.
    find "$corpus" -type f -regextype egrep -regex '.*/[0-9a-f]{40}' -delete
    cp "$fresh"/* "$corpus"
    printf '%-14s %4d inputs %6d bytes\n' "$1" "$(find "$corpus" -type f | wc -l)" \
        "$(cat "$corpus"/* | wc -c)"
}

build
failed=0
for target in "$@"; do
    while [ "$(jobs -rp | wc -l)" -ge "$jobs" ]; do wait -n || failed=1; done
    "$action" "$target" &
done
while [ -n "$(jobs -p)" ]; do wait -n || { [ $? -ne 127 ] || break; failed=1; }; done
exit $failed
