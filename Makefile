# Every target is one command that can also be typed by hand; `make` alone lists them.

PYTHON ?= python3
VENV ?= .venv
RUN := $(VENV)/bin/

.DEFAULT_GOAL := help
.PHONY: help venv test lint types imports format goldens samples stubs bench check clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "%-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

venv: $(VENV)/.installed ## a virtual environment with leastway (editable) and the test tools

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(RUN)python -m pip install --quiet --editable '.[test]'
	touch $@

test: venv ## all tests
	$(RUN)python -m pytest -q

lint: venv ## ruff: rules and format
	$(RUN)ruff check .
	$(RUN)ruff format --check .

format: venv ## rewrite the code in the house's format
	$(RUN)ruff check --fix .
	$(RUN)ruff format .

types: venv ## mypy --strict on code and tests
	$(RUN)mypy

imports: venv ## who may import whom (pyproject.toml, tool.importlinter)
	$(RUN)lint-imports --no-logo

goldens: venv ## write sample_flows/*/expected and the README's examples anew; read the diff before you commit it
	$(RUN)python -m tests.goldens --update
	$(RUN)python -m tests.readme --update

samples: venv ## write the captures of sample_flows/ anew
	$(RUN)python -m tests.simulator

stubs: ## collector/wire/*_pb2.py(i) anew from the .proto files; the compiler stays out of the other environment
	$(PYTHON) -m venv .stubs
	.stubs/bin/pip install --quiet 'grpcio-tools==1.74.0' # writes for protobuf 6.31.1, the oldest that pyproject.toml allows
	.stubs/bin/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. collector/wire/*.proto
	rm -rf .stubs

bench: venv ## speed side by side on this machine, how the judge grows, memory over 10 million flows; ten minutes
	$(RUN)python -m tests.bench
	$(RUN)python -m tests.bench_judge
	$(RUN)python -m tests.bench_als
	$(RUN)python -m tests.bench_hubble
	$(RUN)python -m tests.bench_memory

check: ## everything that CI runs, in fresh environments
	.ci/run

clean: ## remove what was built or cached, and the virtual environment
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
