#!/usr/bin/env bash
# Apache Kafka for the tests.
#
#   scripts/kafka.sh install     fetch its jars once; prints the folder that holds them
#   scripts/kafka.sh connect-plugins
#                                as install, and the file connectors of Kafka Connect; prints their plugin path
#   scripts/kafka.sh debezium    fetch Debezium's Postgres connector once; prints its plugin path
#   scripts/kafka.sh streams-peer
#                                build the Kafka Streams application of benches/streams-peer, once for each of its versions;
#                                prints its class path
#   scripts/kafka.sh tool CLASS ARGUMENT...
#                                run one of its command line tools,
#                                e.g. org.apache.kafka.tools.consumer.ConsoleConsumer
#
# Jars go to ${MILLRACE_SERVICES_DIR:-~/.cache/millrace/services}, to kafka-4.3.1/libs and so on. Java and Maven are installed with
# apt-get where they are missing.
set -euo pipefail

version=4.3.1
debezium_version=3.6.1.Final
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
services=${MILLRACE_SERVICES_DIR:-$HOME/.cache/millrace/services}
home=$services/kafka-$version
libs=$home/libs

require() { # command, Debian package
    command -v "$1" >/dev/null && return
    echo "kafka.sh: '$1' is missing: installing the Debian package $2, which Kafka needs to be fetched and run" >&2
    local as_root=()
    [ "$(id -u)" -eq 0 ] || as_root=(sudo)
    "${as_root[@]}" apt-get update -qq >&2
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$2" >&2
}

install() {
    require java default-jre-headless
    if [ ! -d "$libs" ]; then
        mkdir -p "$services"
        # Several test binaries may come here at once: one fetches, the others wait for it.
        exec 9>"$services/.kafka-$version.lock"
        flock 9
        if [ ! -d "$libs" ]; then
            require mvn maven
            local staging
            staging=$(mktemp -d "$services/.kafka-$version.XXXXXX")
            echo "kafka.sh: fetching Apache Kafka $version (about 60 MB) into $libs" >&2
            if ! mvn --batch-mode --quiet --file "$here/kafka/pom.xml" dependency:copy-dependencies \
                -DoutputDirectory="$staging" >&2; then
                rm -rf "$staging"
                echo "kafka.sh: Maven could not fetch Apache Kafka $version; see above" >&2
                exit 1
            fi
            mkdir -p "$home"
            chmod 755 "$staging"
            # The folder appears complete or not at all.
            mv "$staging" "$libs"
        fi
        flock -u 9
    fi
    echo "$libs"
}

connect_plugins() {
    install >/dev/null
    if [ ! -d "$home/plugins" ]; then
        exec 9>"$services/.kafka-$version.lock"
        flock 9
        if [ ! -d "$home/plugins" ]; then
            require mvn maven
            local staging
            staging=$(mktemp -d "$services/.plugins-$version.XXXXXX")
            echo "kafka.sh: fetching the file connectors of Kafka Connect $version into $home/plugins" >&2
            if ! mvn --batch-mode --quiet dependency:copy -Dartifact="org.apache.kafka:connect-file:$version" \
                -DoutputDirectory="$staging/connect-file" >&2; then
                rm -rf "$staging"
                echo "kafka.sh: Maven could not fetch connect-file $version; see above" >&2
                exit 1
            fi
            chmod 755 "$staging"
            mv "$staging" "$home/plugins"
        fi
        flock -u 9
    fi
    echo "$home/plugins"
}

debezium() {
    local plugins=$services/debezium-$debezium_version
    if [ ! -d "$plugins" ]; then
        mkdir -p "$services"
        exec 9>"$services/.debezium-$debezium_version.lock"
        flock 9
        if [ ! -d "$plugins" ]; then
            require mvn maven
            local staging
            staging=$(mktemp -d "$services/.debezium-$debezium_version.XXXXXX")
            echo "kafka.sh: fetching Debezium's Postgres connector $debezium_version (about 8 MB) into $plugins" >&2
            # What the worker has itself must not come a second time with the plugin.
            if ! mvn --batch-mode --quiet --file "$here/kafka/debezium.xml" dependency:copy-dependencies \
                -DexcludeArtifactIds=connect-api,kafka-clients,slf4j-api,lz4-java,snappy-java,zstd-jni \
                -DoutputDirectory="$staging/postgres" >&2; then
                rm -rf "$staging"
                echo "kafka.sh: Maven could not fetch Debezium $debezium_version; see above" >&2
                exit 1
            fi
            chmod 755 "$staging"
            mv "$staging" "$plugins"
        fi
        flock -u 9
    fi
    echo "$plugins"
}

streams_peer() {
    local project=$here/../benches/streams-peer application libraries
    application=$services/streams-peer-$(cat "$project"/pom.xml "$project"/src/main/java/*.java | sha256sum | cut -c1-12)
    # Versions of the application share what they are built with.
    libraries=$services/streams-peer-libs-$(sha256sum <"$project/pom.xml" | cut -c1-12)
    if [ ! -d "$application" ] || [ ! -d "$libraries" ]; then
        mkdir -p "$services"
        exec 9>"$services/.streams-peer.lock"
        flock 9
        if [ ! -d "$application" ] || [ ! -d "$libraries" ]; then
            require javac default-jdk-headless
            require mvn maven
            local staging
            staging=$(mktemp -d "$services/.streams-peer.XXXXXX")
            echo "kafka.sh: building the Kafka Streams application of the benchmarks (fetches about 150 MB the first time)" >&2
            if ! mvn --batch-mode --quiet --file "$project/pom.xml" package dependency:copy-dependencies \
                -Doutdir="$staging/build" -DoutputDirectory="$staging/libraries" >&2; then
                rm -rf "$staging"
                echo "kafka.sh: Maven could not build the Kafka Streams application; see above" >&2
                exit 1
            fi
            mkdir "$staging/application"
            mv "$staging"/build/streams-peer-*.jar "$staging/application/"
            [ -d "$libraries" ] || mv "$staging/libraries" "$libraries"
            [ -d "$application" ] || mv "$staging/application" "$application"
            rm -rf "$staging"
        fi
        flock -u 9
    fi
    echo "$application/*:$libraries/*"
}

case "${1:-}" in
install)
    install
    ;;
connect-plugins)
    connect_plugins
    ;;
debezium)
    debezium
    ;;
streams-peer)
    streams_peer
    ;;
tool)
    shift
    install >/dev/null
    exec java -Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp "$libs/*" "$@"
    ;;
*)
    sed -n '2,16s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
    exit 2
    ;;
esac
