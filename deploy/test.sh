#!/usr/bin/env bash
# Everything that a change has to pass, in the order of what fails soonest. Stops at the first
# failure and names it. Usage: deploy/test.sh [step ...]   (all steps, if none is named)
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
steps=(setup format lints documentation constrained boards dist package arm tests fuzz)

# Nothing here is built a second time, so there is nothing to gain from it.
export CARGO_INCREMENTAL=0
export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-never}

# Minutes after which a step has failed: several times what it takes on two cores.
limit_min() {
    case $1 in
    setup | lints | boards) echo 20 ;;
    dist | tests) echo 30 ;;
    *) echo 10 ;;
    esac
}

shipped() { # architecture
    local found=("$root"/dist/headwater-*-"$1")
    [ -x "${found[0]}" ] || { echo "no binary for $1 in dist: run make dist" >&2; return 1; }
    echo "${found[0]}"
}

step_setup() { deploy/setup.sh test; }

step_format() {
    cargo fmt --all --check
    (cd firmware/boards && cargo fmt --all --check)
    cargo fmt --manifest-path log-lite/fuzz/Cargo.toml --check
}

step_lints() { cargo clippy --locked --workspace --all-targets -- -D warnings; }

# With the examples, so that what the lints have checked is not checked again without its features.
step_documentation() {
    RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --lib --examples
}

# What nodes carry builds for the smallest microcontroller, without atomics and without a heap.
step_constrained() {
    cargo build --locked --target thumbv6m-none-eabi \
        --package log-lite --package headwater-shared --package node-core
}

step_boards() {
    firmware/size.sh
    cd firmware/boards
    cargo clippy --locked --release --package board-qemu --target thumbv7em-none-eabihf -- -D warnings
    cargo clippy --locked --release --package board-rp2350 --target thumbv8m.main-none-eabihf -- -D warnings
}

step_dist() { deploy/dist.sh; }

step_package() {
    "$(shipped "$(uname -m)")" check -c deploy/headwater.toml
    local deb
    for deb in dist/*.deb; do
        dpkg-deb --info "$deb"
        dpkg-deb --contents "$deb"
    done
    # The score is in tenths: fails if the unit gives away more than it does today.
    systemd-analyze security --offline=true --threshold=15 --no-pager deploy/headwater.service \
        >build/unit-security.txt || { cat build/unit-security.txt; return 1; }
    tail -n1 build/unit-security.txt
}

step_arm() {
    local binary
    binary=$(shipped aarch64)
    qemu-aarch64-static "$binary" check -c deploy/headwater.toml
    qemu-aarch64-static "$binary" demo --for 5s
}

# The whole path runs with the binary that ships and the node's image that `boards` left.
step_tests() {
    HEADWATER_BIN=$(shipped "$(uname -m)")
    export HEADWATER_BIN
    cargo test --locked --workspace
    [ "$(id -u)" = 0 ] || echo "not root, so no power was cut and no disk filled: sudo -E make test"
}

# Bounded, and the same inputs each time: what looks for new ones is `make fuzz`.
step_fuzz() {
    cargo clippy --locked --manifest-path log-lite/fuzz/Cargo.toml --target-dir target/fuzz \
        --all-targets -- -D warnings
    deploy/fuzz.sh -t 10 -j 2 -s 1 -r 3000
}

run_step() {
    local step=$1 started=$SECONDS status=0
    echo "=== $step"
    timeout --kill-after=10 "$(limit_min "$step")m" "$root/deploy/test.sh" --only "$step" \
        </dev/null &
    child=$!
    wait "$child" || status=$?
    child=
    [ $status -ne 124 ] || echo "$step took longer than $(limit_min "$step") minutes" >&2
    report+="$(printf '%-14s %5d s' "$step" $((SECONDS - started)))"$'\n'
    [ $status -eq 0 ] || report+="FAILED: $step (exit $status)"$'\n'
    echo "=== $step: $((SECONDS - started)) s, exit $status"
    return $status
}

child=
report=
if [ "${1-}" = --only ]; then
    "step_$2"
    exit
fi
# timeout ends what its step started; it has a process group of its own, which Ctrl-C does not reach.
trap '[ -z "$child" ] || kill "$child"; exit 130' INT TERM
[ $# -eq 0 ] || steps=("$@")
for step in "${steps[@]}"; do
    declare -F "step_$step" >/dev/null || { echo "test.sh: no step '$step': ${steps[*]}" >&2; exit 2; }
    run_step "$step" || { status=$?; break; }
done
printf '\n%stotal          %5d s\n' "$report" "$SECONDS"
exit "${status:-0}"
