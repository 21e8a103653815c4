#!/bin/sh
# Puts an Apache Kafka broker with all it needs into build/kafka/libs, from Maven Central.
# Quick when that is done already; safe to run from several processes at once.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
target="$root/build/kafka"

done_mark() {
    # The mark names the version that was asked for: another pom.xml installs again.
    [ -f "$target/libs/.done" ] && cmp -s "$here/pom.xml" "$target/libs/.done"
}

need() {
    command -v "$1" >/dev/null 2>&1 && return
    echo "installing $2 (for $1)" >&2
    as_root=""
    [ "$(id -u)" = 0 ] || as_root=sudo
    $as_root apt-get update -qq
    DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq --no-install-recommends "$2" >&2
}

need java openjdk-17-jre-headless
done_mark && exit 0
need mvn maven
need flock util-linux

mkdir -p "$target"
exec 9>"$target/lock"
flock 9
done_mark && exit 0

rm -rf "$target/libs" "$target/libs.new"
mvn -q -B -ntp -f "$here/pom.xml" dependency:copy-dependencies \
    -DincludeScope=runtime -DoutputDirectory="$target/libs.new" >&2
cp "$here/pom.xml" "$target/libs.new/.done"
mv "$target/libs.new" "$target/libs"
