#!/usr/bin/env bash
# Builds what ships, into dist/: a static binary and a Debian package for each architecture.
# deploy/setup.sh dist has put the tools there; `make dist` calls both.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
dist=$root/dist

version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n1)
[ -n "$version" ] || { echo "dist: no version in Cargo.toml" >&2; exit 1; }
# The same commit gives the same packages, byte for byte.
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct 2>/dev/null || echo 1763700000)
export SOURCE_DATE_EPOCH

build() {
    # Zig's own cache stays with the rest of what is built.
    export ZIG_GLOBAL_CACHE_DIR=$root/build/zig-cache ZIG_LOCAL_CACHE_DIR=$root/build/zig-cache
    # Settings for the host's compiler do not fit these targets.
    unset RUSTFLAGS CARGO_ENCODED_RUSTFLAGS CARGO_BUILD_TARGET CC CXX CFLAGS CXXFLAGS
    PATH=$root/build/zig/bin:$PATH cargo zigbuild --locked --release \
        --package headwater --bin headwater \
        --target x86_64-unknown-linux-musl --target aarch64-unknown-linux-musl
}

is_static() { # binary
    if readelf --program-headers --wide "$1" | grep -q INTERP; then
        echo "dist: $1 wants a dynamic loader" >&2
        return 1
    fi
}

copyright() {
    cat <<EOF
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: headwater
Source: https://github.com/headwater/headwater

Files: *
Copyright: The Headwater authors
License: MIT or Apache-2.0

License: MIT
$(tail -n +3 LICENSE-MIT | sed -e 's/^$/./' -e 's/^/ /')

License: Apache-2.0
 On Debian systems the full text is in /usr/share/common-licenses/Apache-2.0.
EOF
}

changelog() {
    cat <<EOF
headwater ($version) stable; urgency=medium

  * See the repository for what changed.

 -- Headwater developers <headwater@users.noreply.github.com>  $(date -u -R -d "@$SOURCE_DATE_EPOCH")
EOF
}

control() { # architecture, installed size in KiB
    cat <<EOF
Package: headwater
Version: $version
Architecture: $1
Maintainer: Headwater developers <headwater@users.noreply.github.com>
Installed-Size: $2
Depends: adduser, init-system-helpers (>= 1.54~)
Section: net
Priority: optional
Homepage: https://github.com/headwater/headwater
Description: edge stream gateway from sensors to Kafka
 Takes readings from sensor nodes and any MQTT device, acknowledges them when
 they are on disk, answers windowed queries over them, serves local
 subscribers, and forwards them to a Kafka cluster exactly once.
EOF
}

package() { # binary, architecture
    local tree=$root/build/deb/$2
    rm -rf "$tree"
    install -D -m 755 "$1" "$tree/usr/bin/headwater"
    install -D -m 644 deploy/headwater.toml "$tree/etc/headwater/headwater.toml"
    install -D -m 644 deploy/headwater.service "$tree/lib/systemd/system/headwater.service"
    install -d -m 755 "$tree/usr/share/doc/headwater" "$tree/DEBIAN"
    install -D -m 644 deploy/deb/lintian-overrides "$tree/usr/share/lintian/overrides/headwater"
    copyright >"$tree/usr/share/doc/headwater/copyright"
    changelog | gzip -9n >"$tree/usr/share/doc/headwater/changelog.gz"
    control "$2" "$(du -k -s --apparent-size "$tree" | cut -f1)" >"$tree/DEBIAN/control"
    echo /etc/headwater/headwater.toml >"$tree/DEBIAN/conffiles"
    install -m 755 deploy/deb/{postinst,prerm,postrm} "$tree/DEBIAN/"
    (cd "$tree" && find usr lib -type f -print0 | sort -z | xargs -0 md5sum) >"$tree/DEBIAN/md5sums"
    chmod -R u=rwX,go=rX "$tree"
    dpkg-deb --root-owner-group -Zxz --build "$tree" "$dist/headwater_${version}_$2.deb" >/dev/null
}

# A function, so that the whole file has been read before the long build.
main() {
    build
    rm -rf "$dist"
    mkdir -p "$dist"
    local pair arch binary
    for pair in x86_64:amd64 aarch64:arm64; do
        arch=${pair%:*}
        binary=$dist/headwater-$version-$arch
        install -m 755 "target/$arch-unknown-linux-musl/release/headwater" "$binary"
        is_static "$binary"
        package "$binary" "${pair#*:}"
    done
    ls -l "$dist"
}
main
exit
