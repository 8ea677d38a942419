#!/usr/bin/env bash
# Installs the system packages that are missing, after saying which and why.
#   install-packages.sh build         what the build needs
#   install-packages.sh build test    and what the tests need
#   install-packages.sh bench         what the benchmarks need beside that
#   install-packages.sh docker        what the test of the image needs
#   install-packages.sh data          what fetching the demo's whole data, and training its models, needs
set -euo pipefail

declare -A reason=()
need() { # need PACKAGE WHY TEST...: PACKAGE is missing if TEST fails
  local package=$1 why=$2
  shift 2
  "$@" >/dev/null 2>&1 || reason[$package]=$why
}
has_libclang() { compgen -G '/usr/lib/llvm-*/lib/libclang*.so*' >/dev/null || compgen -G '/usr/lib/*/libclang*.so*' >/dev/null; }

for purpose in "$@"; do
  case $purpose in
    build)
      need gcc 'compiles librdkafka' command -v gcc
      need g++ 'links the C++ library of RocksDB' command -v g++
      need make 'builds librdkafka, and OpenSSL for what is shipped' command -v make
      need perl 'configures OpenSSL for what is shipped' command -v perl
      need clang 'compiles RocksDB, and reads its headers' command -v clang++
      need libclang-dev 'reads the headers of RocksDB' has_libclang
      need pkg-config 'finds the libraries of this system' command -v pkg-config
      need libssl-dev 'is not compiled then' pkg-config --exists libssl
      need libzstd-dev 'is not compiled then' pkg-config --exists libzstd
      need libjemalloc-dev 'is not compiled then' pkg-config --exists jemalloc
      ;;
    test)
      need default-jre-headless 'runs Apache Kafka, the broker that the tests are judged by' command -v java
      need maven 'fetches Apache Kafka' command -v mvn
      need postgresql 'is what the Postgres connector reads from' compgen -G '/usr/lib/postgresql/*/bin/postgres'
      ;;
    docker)
      need bc 'adds up the times of the steps' command -v bc
      need binutils 'strips the program for the image' command -v strip
      need curl 'asks the workers' command -v curl
      ;;
    bench)
      need default-jdk-headless 'compiles the Kafka Streams application that is measured beside millrace' command -v javac
      ;;
    data)
      need python3-venv 'makes the Python environment that fetches the data' python3 -c 'import ensurepip, venv'
      ;;
    *)
      echo "install-packages.sh: no such purpose: $purpose (build, test, docker, bench, data)" >&2
      exit 2
      ;;
  esac
done

command -v cargo >/dev/null || {
  echo "millrace needs a Rust toolchain (1.92 or later): see https://rustup.rs" >&2
  exit 1
}
[ ${#reason[@]} -gt 0 ] || exit 0

echo "These system packages are missing and will be installed with apt-get:"
for package in "${!reason[@]}"; do echo "  $package: ${reason[$package]}"; done
command -v apt-get >/dev/null || {
  echo "this machine has no apt-get: install the packages above by its own means, then run the command again" >&2
  exit 1
}
root=()
[ "$(id -u)" = 0 ] || root=(sudo)
"${root[@]}" apt-get update -qq
DEBIAN_FRONTEND=noninteractive "${root[@]}" apt-get install -y -qq --no-install-recommends "${!reason[@]}"
