#!/usr/bin/env bash
# check-dist.sh PROGRAM: what is shipped has no demo broker and no crash points, is small, and says what it is.
set -euo pipefail
program=${1:?the program}
fail() { echo "check-dist: $1" >&2; exit 1; }
bytes=$(stat --format %s "$program")
[ "$bytes" -lt 60000000 ] || fail "$program has $((bytes / 1000000)) MB, and 60 are allowed"
for word in MILLRACE_CRASH_POINT dev-broker dev_broker; do
    ! grep --quiet --text --fixed-strings "$word" "$program" || fail "$program has $word in it"
done
! ldd "$program" | grep --quiet libstdc++ || fail "$program needs the shared C++ library: see millrace/build.rs"
version=$("$program" --version)
[[ $version == *dist* ]] || fail "the version does not say that it is of the profile dist: $version"
echo "$version: $((bytes / 1000000)) MB"
