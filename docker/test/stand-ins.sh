#!/usr/bin/env bash
# Builds, where they are missing, local images under the names that docker/compose.yaml uses, with the environment, ports, paths
# and users of the originals, for machines that reach no registry.
#   stand-ins.sh IMAGE...      kafka postgres s3 registry rust
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/lib.sh"
repository=${REPOSITORY:-$(git rev-parse --show-toplevel)}

image() { docker compose -f "$here/../compose.yaml" --profile '*' config --format json | python3 -c "import json, sys; print(json.load(sys.stdin)['services']['$1']['image'])"; }
missing() { ! docker image inspect "$1" >/dev/null 2>&1; }
build() { # IMAGE DOCKERFILE ARGUMENT...
    # the network of this machine, for its mirrors of packages
    docker build --quiet --network host --tag "$1" --file "$here/stand-ins/$2" "${@:3}" "$here/stand-ins" >/dev/null
}

registry_app() {
    local version=2.6.13.Final
    local folder=$services/apicurio-registry-$version
    if [ ! -d "$folder" ]; then
        local staging
        staging=$(mktemp -d "$services/.apicurio.XXXXXX")
        mvn --batch-mode --quiet dependency:copy "-Dartifact=io.apicurio:apicurio-registry-app:$version:tar.gz:all" \
            "-DoutputDirectory=$staging" >&2
        mkdir "$staging/app"
        tar xzf "$staging"/*.tar.gz -C "$staging/app"
        mv "$staging/app" "$folder"
        rm -rf "$staging"
    fi
    echo "$folder"
}

"$here/base.sh"
for name; do
    case $name in
    rust) tag=rust:1.95-bookworm ;;
    *) tag=$(image "$name") ;;
    esac
    missing "$tag" || continue
    case $name in
    kafka) build "$tag" java.Dockerfile --target kafka --build-context "libs=$("$repository/scripts/kafka.sh" install)" ;;
    postgres) build "$tag" postgres.Dockerfile ;;
    s3) build "$tag" s3.Dockerfile --build-context "versitygw=$(dirname "$("$repository/scripts/s3-server.sh" install)")" ;;
    registry) build "$tag" java.Dockerfile --target registry --build-context "app=$(registry_app)" ;;
    rust) build "$tag" rust.Dockerfile --build-context "toolchain=$(rustc --print sysroot)" --build-context certificates=/etc/ssl/certs ;;
    esac
done
