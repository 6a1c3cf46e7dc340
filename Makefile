# The words a developer types. Every target sets up what it needs by itself.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: setup fmt check test sim plants integration chaos chaos-short demo bench fuzz night lock clean

setup: $(VENV)/.ready

# The lock file holds exact versions with hashes; pip refuses anything else.
$(VENV)/.ready: pyproject.toml requirements.lock
	$(PYTHON) -c 'import sys; sys.exit("Rain needs Python 3.11 or newer") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

fmt: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: setup
	$(BIN)/python -m pytest --ignore=tests/integration

sim: setup
	$(BIN)/python -m sim --seeds 1:100
	$(BIN)/python -m sim --seeds 101:2000 --nodes 3
	$(BIN)/python -m sim --seeds 1:3 --twice

# Every planted bug must be found: a simulator that finds nothing proves nothing.
plants: setup
	@for plant in $$($(BIN)/python -m sim --plants | cut -d' ' -f1); do \
	    $(BIN)/python -m sim --plant $$plant --seeds 1:300 >$(VENV)/plant.log 2>&1; \
	    if [ $$? -ne 1 ]; then tail -n 3 $(VENV)/plant.log; echo "$$plant: not found"; exit 1; fi; \
	    echo "$$plant: $$(grep -m1 '^seed' $(VENV)/plant.log)"; \
	done

integration: setup
	$(BIN)/python -m pytest tests/integration

# Faults at random over a real pool under work, then every promise is checked: ten minutes.
# A run is drawn from a seed and says which: make chaos SEED=7 plays it again.
chaos: setup
	$(BIN)/python -m tests.chaos $(if $(SEED),--seed $(SEED))

chaos-short: setup
	$(BIN)/python -m tests.chaos --seconds 90 $(if $(SEED),--seed $(SEED))

demo: setup
	$(BIN)/rain demo

bench: setup
	$(BIN)/python -m tests.bench

fuzz: setup
	$(BIN)/python -m tests.fuzz

night: fuzz
	$(BIN)/python -m tests.torn
	$(BIN)/python -m sim --seeds 1:20000 --coverage
	$(BIN)/python -m sim --seeds 1:100 --twice
	RAIN_BUSY_SECONDS=600 $(BIN)/python -m pytest tests/integration/test_resilience.py -k busy
	$(BIN)/python -m tests.chaos --seconds 3600

# Needs uv, once, on the developer's machine: make lock
lock:
	uv pip compile -q --universal --generate-hashes --no-header --no-annotate --no-emit-index-url \
	    --group dev pyproject.toml -o requirements.lock

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
