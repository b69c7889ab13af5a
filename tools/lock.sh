#!/bin/sh
# Recompiles requirements/dev.lock: exact versions with hashes, no index addresses.
set -eu
cd "$(dirname "$0")/.."
.venv/bin/uv pip compile --quiet --no-header --no-annotate --no-emit-index-url --no-emit-find-links \
  --generate-hashes --universal --python-version 3.11 requirements/dev.in -o requirements/dev.lock
