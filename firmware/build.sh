#!/bin/sh
# Builds the boards. Usage: firmware/build.sh [qemu] [rp2350]   (both, if none is named)
# Leaves build/firmware/<board>.elf, and for the RP2350 a .uf2 to drop on its USB drive.
set -eu
cd "$(dirname "$0")/boards"
root=$(cd ../.. && pwd)
out=$root/build/firmware
mkdir -p "$out"

# The boards have settings of their own; those of the host's build do not fit them.
unset RUSTFLAGS CARGO_ENCODED_RUSTFLAGS CARGO_TARGET_DIR CARGO_BUILD_TARGET RUSTDOCFLAGS

build() { # board target
    if ! rustup target list --installed | grep -qx "$2"; then
        rustup target add "$2"
    fi
    cargo build --locked --release --package "board-$1" --target "$2"
    cp "target/$2/release/board-$1" "$out/$1.elf"
}

[ $# -gt 0 ] || set -- qemu rp2350
for board in "$@"; do
    case $board in
    qemu) build qemu thumbv7em-none-eabihf ;;
    rp2350)
        build rp2350 thumbv8m.main-none-eabihf
        cargo run --quiet --locked --manifest-path "$root/Cargo.toml" --package firmware-tools -- \
            uf2 "$out/rp2350.elf" "$out/rp2350.uf2"
        ;;
    *)
        echo "build.sh: there is no board '$board': give qemu, rp2350 or both" >&2
        exit 2
        ;;
    esac
done
