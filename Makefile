# Two commands do everything: `make demo` and `make test`. Both set themselves up on a fresh machine.
PY := .venv/bin/python

# Some images forbid it; then every program that the tests start compiles all that it imports.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test quick check bench lab serve faults canary screens generate setup clean

setup:
	@sh tools/setup.sh

demo: setup  ## rotate every row against real parts; leaves a hub to click on (ARGS="--no-serve --report FILE")
	@$(PY) -m demo $(ARGS)

ROWS := tests/compliance tests/operations/test_rows_end_to_end.py
ON_BOTH := tests/api tests/consumers tests/faces tests/issued tests/operations

# Three programs, so that no process gets old: drivers, servers and their threads of every row add up. Tests wait for servers, so there
# are more workers than cores; the longest files begin first (tests/conftest.py), however few tests they have.
# Beside the checks all tests are compiled, once: otherwise each worker of the first program does it for itself.
test: setup  ## the whole gate: lint, types, import contracts, generated files, all tests on SQLite and PostgreSQL
	@$(PY) -m pytest --collect-only -qq >/dev/null 2>&1 & $(MAKE) --no-print-directory check && wait
	@$(PY) -m pytest -n 4 --dist loadfile --no-loadscope-reorder $(addprefix --ignore=,$(ROWS)) $(ARGS)
	@$(PY) -m pytest -n 4 --dist loadgroup $(ROWS) $(ARGS)
	@TEST_STORE=postgresql $(PY) -m pytest -n 5 --dist loadfile --no-loadscope-reorder -m "not slow" $(ON_BOTH) $(ARGS)

quick: setup  ## tests without the slow ones
	@$(PY) -m pytest -m "not slow" -x $(ARGS)

check: setup  ## ruff, mypy, import contracts, generated files current
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports --cache-dir .import_linter_cache
	@$(PY) tools/generate.py --check

generate: setup  ## writes docs/systems/*.md, docs/cli.md, docs/settings.md and the tables of the README
	@$(PY) tools/generate.py

faults: setup  ## the full fault matrix: a real kill -9 at every place, every fault, every strategy
	@$(PY) -m tests.faults.matrix --write-docs $(ARGS)
	@$(PY) -m tests.faults.bucket

canary: setup  ## after demo and tests: no lab secret in any file, log, table or output
	@$(PY) -m tests.canary $(ARGS)

screens: setup  ## pictures of every page, wide and on a phone, light and dark, in .screens/ (ARGS="--only connect")
	@$(PY) -m tests.web.screens $(ARGS)

bench: setup  ## bench/results.json and a table; PEER=openbao adds the peer
	@$(PY) -m bench $(if $(PEER),--peer $(PEER)) $(ARGS)

lab: setup  ## starts the lab and keeps it running
	@.venv/bin/keyturn-lab up

serve: setup  ## starts the hub
	@.venv/bin/keyturn serve

clean:
	rm -rf .venv .lab .demo lab/oidc/node_modules tests/issued/node/node_modules .mypy_cache .ruff_cache .pytest_cache
