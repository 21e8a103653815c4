#!/bin/sh
# Prints what the flash ring takes of a Cortex-M0; exit 1 if that is over its budget. Builds
# firmware/ring-size and runs it in QEMU (a BBC micro:bit):
#   code   the program with the ring, less the same program that only reads, writes and erases
#   state  the ring itself, with its window, without the flash driver
#   stack  the deepest that any call went, the driver's part of it included
# The budget is for append, read and recovery; beside it stands what a program takes that trims too.
set -eu
cd "$(dirname "$0")/ring-size"

# See docs/decisions/0011. A ring that trims and the asynchronous one are for comparison.
code_max=4096
ram_max=384

unset RUSTFLAGS CARGO_ENCODED_RUSTFLAGS CARGO_TARGET_DIR CARGO_BUILD_TARGET RUSTDOCFLAGS
target=thumbv6m-none-eabi
if ! rustup target list --installed | grep -qx "$target"; then
    rustup target add "$target"
fi
elf=target/$target/release/ring-size

build() { # feature, or nothing
    cargo build --quiet --locked --release ${1:+--features "$1"}
}

code() {
    size -A "$elf" | awk '$1 == ".text" || $1 == ".rodata" { sum += $2 } END { print sum }'
}

build
without=$(code)
status=0
for kind in blocking blocking,trim async,trim; do
    build "$kind"
    code=$(($(code) - without))
    calls=$(timeout 60 qemu-system-arm -M microbit -nographic -monitor none -serial none \
        -semihosting-config enable=on,target=native -kernel "$elf")
    state=$(echo "$calls" | awk '$1 == "state" { print $2 + 0 }')
    stack=$(echo "$calls" | awk '$1 != "state" && $2 + 0 > most { most = $2 + 0 } END { print most }')
    each=$(echo "$calls" | awk '$1 != "state" { printf "%s %d ", $1, $2 }')
    ram=$((state + stack))
    printf 'ring, %-13s  code %5d B   ram %4d B (state %d, stack %d: %s)\n' \
        "$kind" "$code" "$ram" "$state" "$stack" "${each% }"
    [ "$kind" = blocking ] || continue
    if [ "$code" -gt "$code_max" ] || [ "$ram" -gt "$ram_max" ]; then
        echo "ring-size.sh: over its budget of $code_max B of code and $ram_max B of RAM" >&2
        status=1
    fi
done
exit $status
