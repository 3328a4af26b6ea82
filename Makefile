# Needs Python with venv and pip, nothing else. PYTHON chooses which: make PYTHON=python3.12 test
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# Images of containers often set it; each of pytest's workers would then compile all tests anew, for ten seconds.
unexport PYTHONDONTWRITEBYTECODE

# Stamps: pip installs again when pyproject.toml is newer than they are.
PIP := $(VENV)/.pip
DEMO := $(VENV)/.installed-demo
DEV := $(VENV)/.installed-dev

# Strict; .ci/run gives another one, which tries once more what failed (tools/second_try.py).
PYTEST := $(BIN)/python -m pytest

.PHONY: help demo test test-slow test-all lint bench docs clean

help:
	@echo "make demo       run the example shop with telemetry (ARGS='--orders 5' ends it after five orders)"
	@echo "make test       run the tests that are not slow (ARGS are pytest's; all in the files and folders that they name)"
	@echo "make test-slow  run the slow ones"
	@echo "make test-all   run both at once, as CI does"
	@echo "make lint       check style and types"
	@echo "make bench      compare what telemetry costs (ARGS='requests --peers none,contrib,otelkit --rounds 3' for a part)"
	@echo "make docs       write docs/reference anew"
	@echo "make clean      remove what make has made: .venv, .demo and the tools' caches"

demo: $(DEMO)
	@$(BIN)/python -m examples.shop.demo $(ARGS)

# Most tests wait for processes that they start: two workers a core.
WORKERS = -n $$(( 2 * $$($(BIN)/python -c 'import os; print(os.cpu_count())') )) --dist loadgroup

# Who names tests by their path means all of them; an -m of ARGS counts instead of this one.
test: $(DEV)
	$(PYTEST) $(WORKERS) $(if $(findstring tests/,$(ARGS)),,-m 'not slow') $(ARGS)

test-slow: $(DEV)
	$(PYTEST) $(WORKERS) -m slow $(ARGS)

# The slow ones wait, the others compute: together they take less than one after the other.
test-all: $(DEV)
	$(PYTEST) $(WORKERS) $(ARGS)

lint: $(DEV)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# Every part takes about a quarter of an hour, but for the soak (half an hour), which runs only when it is named. The
# peers' environments (benchmarks/.env-*) are made in the first run.
bench: $(DEV)
	@$(BIN)/python -m benchmarks $(ARGS)

# The reference, from the code's own tables.
docs: $(DEV)
	$(BIN)/python -m tools.generate_docs

clean:
	rm -rf $(VENV) .demo .nox .pytest_cache .mypy_cache .ruff_cache .hypothesis dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Dependency groups need pip 25.1. A .venv that is there already is used; uv makes them without pip.
$(PIP):
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	@touch $@

$(DEMO): pyproject.toml | $(PIP)
	$(BIN)/python -m pip install --quiet --editable '.[demo]'
	@touch $@

# What the tests need includes what the demo needs.
$(DEV): pyproject.toml | $(PIP)
	$(BIN)/python -m pip install --quiet --editable '.[all,demo]' --group dev
	@touch $@ $(DEMO)
