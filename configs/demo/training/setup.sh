#!/bin/sh
# Makes the Python environment of the training scripts, under $HOME/.cache/millrace/venv.
# Nothing that is built or tested in this repository needs it: data, models and vectors are committed.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
venv="${MILLRACE_VENV:-$HOME/.cache/millrace/venv}"
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt"
echo "$venv/bin/python"
