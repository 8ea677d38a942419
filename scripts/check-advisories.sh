#!/usr/bin/env bash
# Security advisories of the dependencies, where the advisory database can be reached. Where it cannot, this says so and
# ends with 75 (EX_TEMPFAIL): the check is then open, not passed.
set -euo pipefail
cd "$(dirname "$0")/.."
if ! command -v cargo-deny >/dev/null; then
  echo "advisories: NOT CHECKED, cargo-deny is not installed (cargo install cargo-deny)"
  exit 75
fi
if ! timeout 60 cargo deny fetch db >/dev/null 2>&1; then
  echo "advisories: NOT CHECKED, the advisory database cannot be reached from here"
  exit 75
fi
cargo deny check advisories
