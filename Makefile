# Every verb sets up what it needs in .venv; nothing else on the machine is touched.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup demo test lint bench docs clean
.DEFAULT_GOAL := help

help:
	@echo "make demo    serve the rooms example, drive it with real requests, stop"
	@echo "make test    all checks: lint, types, layers, tests"
	@echo "make lint    ruff and mypy"
	@echo "make bench   all benchmarks, each beside its rivals"
	@echo "make docs    check the code and the links of README.md and docs/"
	@echo "make setup   only create .venv, with everything for development"

setup: .venv/.installed

.venv/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Roost needs Python 3.11 or newer; name one: make PYTHON=python3.13 $(MAKECMDGOALS)"; exit 1; }
	@echo "setting up .venv (once)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,examples]'
	@touch $@

demo: setup
	@$(BIN)/python -m examples.demo

lint: setup
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy

test: lint
	@$(BIN)/python -m pytest

bench: .venv/.rivals
	@for name in $$($(BIN)/python -m benchmarks | cut -d" " -f1); do $(BIN)/python -m benchmarks $$name; done

.venv/.rivals: .venv/.installed
	@echo "installing the rivals (once)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	@if command -v npm >/dev/null; then npm install --silent --prefix .venv/rivals miniflare; fi
	@touch $@

docs: setup
	@$(BIN)/python -m pytest tests/docs

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis
