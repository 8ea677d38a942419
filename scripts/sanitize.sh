#!/usr/bin/env bash
# sanitize.sh: the suites that go through librdkafka, with AddressSanitizer (leaks included) in our code and in librdkafka's.
# A fault ends the suite with its place. It has a target directory of its own, and takes some 20 minutes the first time.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
host=$(rustc -vV | sed -n 's/^host: //p')
# The compiler of the stable channel has the sanitizer, behind a flag that it keeps for the other channels.
export RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=address -Cforce-frame-pointers=yes"
export CC=gcc CFLAGS="-fsanitize=address -fno-omit-frame-pointer"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/sanitized"
export ASAN_OPTIONS="detect_stack_use_after_return=1:strict_string_checks=1${ASAN_OPTIONS:+:$ASAN_OPTIONS}"
suites=${*:-kafka_client client_restarts dev_broker_faults record_writer kafka_network}
# shellcheck disable=SC2086 # a list of names
scripts/cargo.sh test --release --target "$host" --package kafka-client --lib
for suite in $suites; do
    scripts/cargo.sh test --release --target "$host" --package tests --test "$suite"
done
