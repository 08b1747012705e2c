# Every target sets up what it needs: a fresh machine wants Python 3.11+, pip and make, nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN := runs/demo

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint types bench clean

help:  ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

setup: $(VENV)/.installed  ## create .venv with fvar and its development tools

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

lint: setup  ## ruff, its formatter, and the layers between files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: setup  ## mypy, strict
	$(BIN)/mypy

test: setup  ## the whole suite, with branch coverage
	$(BIN)/python -m pytest --cov --cov-report=term

clean:  ## remove .venv, caches and the demo's runs
	rm -rf $(VENV) $(RUN) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .coverage
