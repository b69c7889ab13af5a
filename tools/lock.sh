#!/bin/sh
# Recompiles the locks in requirements/: exact versions with hashes, no index addresses.
set -eu
cd "$(dirname "$0")/.."
for name in dev uv; do
  .venv/bin/uv pip compile --quiet --no-header --no-annotate --no-emit-index-url --no-emit-find-links \
    --generate-hashes --universal --python-version 3.11 "requirements/$name.in" -o "requirements/$name.lock"
done
