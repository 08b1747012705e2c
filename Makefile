# Every target sets up what it needs: a fresh machine wants Python 3.11+, pip and make, nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN := runs/demo
DATA ?= ../shared/data

.DEFAULT_GOAL := help
.PHONY: help setup demo test mutants lint types bench damage clean

help:  ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

setup: $(VENV)/.installed  ## create .venv with fvar and its development tools

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

# The demo, a folder a stage: what is complete is not made again. An interrupted training starts anew.
FVAR := $(BIN)/fvar

demo: $(RUN)/eval/manifest.json $(RUN)/uniform-eval/manifest.json $(RUN)/clusters/manifest.json  ## all stages on toy videos, to accuracy and a page of clusters
	@echo "top-1 on clips not trained on (chance 25 %):"
	@$(BIN)/python tools/compare_runs.py $(RUN)/eval $(RUN)/uniform-eval
	@echo "report: $(RUN)/clusters/index.html"

$(RUN)/toy/toy.csv: $(VENV)/.installed
	$(FVAR) toy --out $(RUN)/toy --clips-per-class 100 --frames 32 --informative 10 --seed 0 --overwrite

$(RUN)/frames/manifest.json: $(RUN)/toy/toy.csv
	$(FVAR) extract $< --videos $(RUN)/toy/videos --out $(@D) --short-side 64 $(if $(wildcard $@),--overwrite)

$(RUN)/train/manifest.json: $(RUN)/frames/manifest.json
	$(FVAR) train $(<D) --recipe toy --seed 0 --out $(@D) --overwrite

$(RUN)/uniform/manifest.json: $(RUN)/frames/manifest.json
	$(FVAR) train $(<D) --recipe toy --clustering uniform --seed 0 --out $(@D) --overwrite

$(RUN)/eval/manifest.json: $(RUN)/train/manifest.json
	$(FVAR) eval $(<D) --split test --out $(@D) --overwrite

$(RUN)/uniform-eval/manifest.json: $(RUN)/uniform/manifest.json
	$(FVAR) eval $(<D) --split test --out $(@D) --overwrite

$(RUN)/clusters/manifest.json: $(RUN)/train/manifest.json
	$(FVAR) inspect-clusters $(<D) --split test --limit 24 --out $(@D) --overwrite

lint: setup  ## ruff, its formatter, and the layers between files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: setup  ## mypy, strict
	$(BIN)/mypy

test: setup  ## the whole suite, with branch coverage
	$(BIN)/python -m pytest --cov --cov-report=term

mutants: setup  ## break the method in every way of tests/mutations.py: a test must fail each time (4 minutes)
	$(BIN)/python tests/mutants.py

bench: setup  ## time and memory of the engines, as ratios within one run
	$(BIN)/python tests/benchmarks/engines.py

damage: setup  ## cut and flip real clips (DATA=folder) in hundreds of places: what does extraction say? (10 minutes)
	$(BIN)/python tests/benchmarks/damage.py $(DATA)

clean:  ## remove .venv, caches and the demo's runs
	rm -rf $(VENV) $(RUN) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .coverage
