#!/bin/sh
# Prints what each board takes; exit 1 if the node of the emulated board is over its budget:
# 128 KiB of flash, 64 KiB of RAM with its stack; or if the flash ring alone is over its own, see
# ring-size.sh. Builds first.
set -eu
cd "$(dirname "$0")"
root=$(cd .. && pwd)
./build.sh "$@"
[ $# -gt 0 ] || set -- qemu rp2350
status=0
for board in "$@"; do
    case $board in
    qemu) limits="--text-max 131072 --ram-max 65536" ;;
    *) limits="" ;;
    esac
    # The limits are words of their own.
    # shellcheck disable=SC2086
    cargo run --quiet --locked --manifest-path "$root/Cargo.toml" --package firmware-tools -- \
        size --name "$board" $limits "$root/build/firmware/$board.elf" || status=1
done
"$root/firmware/ring-size.sh" || status=1
exit $status
