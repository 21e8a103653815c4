#!/usr/bin/env bash
# Installs what a step needs on a Debian 12 with git, make and rustup. Quick when it is all there.
# Usage: deploy/setup.sh demo | demo-kafka | test | lint | firmware | dist | power-cuts | bench
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD

rust_min=1.95
boards="thumbv7em-none-eabihf thumbv8m.main-none-eabihf"
musl="x86_64-unknown-linux-musl aarch64-unknown-linux-musl"

say() { echo "setup: $*" >&2; }
die() {
    say "$*"
    exit 1
}

# Each: a package and what shows that it is there, "package=command" or "package=/file/pattern".
debian() {
    local missing=() entry proof
    for entry in "$@"; do
        proof=${entry#*=}
        case $proof in
        /*) compgen -G "$proof" >/dev/null ;;
        *) command -v "$proof" >/dev/null ;;
        esac || missing+=("${entry%%=*}")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    command -v apt-get >/dev/null || die "no apt-get here; install by hand: ${missing[*]}"
    local as_root=()
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null || die "as root: apt-get install ${missing[*]}"
        as_root=(sudo)
    fi
    say "installing Debian packages: ${missing[*]}"
    "${as_root[@]}" apt-get update -qq
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2
    # A broker that the package starts by itself would take port 1883 from the gateway.
    case " ${missing[*]} " in
    *" mosquitto "*) "${as_root[@]}" systemctl disable --now mosquitto 2>/dev/null || true ;;
    esac
}

rust() {
    command -v cargo >/dev/null || die "no cargo on the PATH; install Rust with rustup, then again"
    local version
    version=$(rustc --version | cut -d' ' -f2)
    if [ "$(printf '%s\n' "$rust_min" "$version" | sort -V | head -n1)" != "$rust_min" ]; then
        die "Rust $version is too old, $rust_min or newer is needed: rustup update stable"
    fi
}

targets() {
    local lib missing=() target
    lib=$(rustc --print sysroot)/lib/rustlib
    for target in "$@"; do
        [ -d "$lib/$target" ] || missing+=("$target")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    say "adding Rust targets: ${missing[*]}"
    rustup target add "${missing[@]}"
}

components() {
    local bin missing=()
    bin=$(rustc --print sysroot)/bin
    [ -x "$bin/cargo-clippy" ] || missing+=(clippy)
    [ -x "$bin/cargo-fmt" ] || missing+=(rustfmt)
    [ ${#missing[@]} -gt 0 ] || return 0
    say "adding Rust components: ${missing[*]}"
    rustup component add "${missing[@]}"
}

# cargo-zigbuild and zig in build/zig; the mark names the versions that were asked for.
zig() {
    local wanted=$root/deploy/zig-requirements.txt venv=$root/build/zig
    cmp -s "$wanted" "$venv/.done" && return
    debian python3=/usr/bin/python3 "python3-venv=/usr/lib/python3*/ensurepip"
    mkdir -p "$root/build"
    exec 9>"$root/build/zig.lock"
    flock 9
    cmp -s "$wanted" "$venv/.done" && return
    say "putting zig and cargo-zigbuild into build/zig"
    rm -rf "$venv"
    /usr/bin/python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$wanted" >&2
    cp "$wanted" "$venv/.done"
}

build_tools=(build-essential=g++ cmake=cmake)

demo() {
    debian "${build_tools[@]}"
}

kafka() {
    "$root/deploy/kafka/install.sh"
}

firmware() {
    debian build-essential=cc
    # shellcheck disable=SC2086  # a list of words
    targets $boards
}

dist() {
    debian "${build_tools[@]}" qemu-user-static=qemu-aarch64-static dpkg=dpkg-deb
    # shellcheck disable=SC2086  # a list of words
    targets $musl
    zig
}

# What makes and mounts the disks whose power is cut.
file_systems() {
    debian e2fsprogs=/sbin/mkfs.ext4 xfsprogs=/sbin/mkfs.xfs mount=/bin/mount
}

rust
case ${1-} in
demo) demo ;;
demo-kafka)
    demo
    kafka
    ;;
lint)
    debian "${build_tools[@]}"
    components
    firmware
    ;;
firmware) firmware ;;
dist) dist ;;
power-cuts)
    debian "${build_tools[@]}"
    file_systems
    ;;
forward)
    debian "${build_tools[@]}"
    kafka
    ;;
fuzz) debian build-essential=g++ ;;
bench) debian "${build_tools[@]}" mosquitto=/usr/sbin/mosquitto ;;
test)
    debian "${build_tools[@]}" qemu-user-static=qemu-aarch64-static socat=socat \
        qemu-system-arm=qemu-system-arm mosquitto=/usr/sbin/mosquitto systemd=systemd-analyze
    file_systems
    components
    targets thumbv6m-none-eabi
    firmware
    dist
    kafka
    ;;
*)
    echo "usage: deploy/setup.sh demo | demo-kafka | test | lint | firmware | dist | power-cuts | forward | bench" >&2
    exit 2
    ;;
esac
