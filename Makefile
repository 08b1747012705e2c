# Every target sets up what it needs. A fresh machine needs Python 3.11+, pip and make, nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN := runs/demo
DATA ?= ../shared/data

.DEFAULT_GOAL := help
.PHONY: help setup browser demo test test-fast mutants lint types bench gpu gradients damage interruptions clean \
	accuracy-toy accuracy-untrimmed accuracy-trimmed accuracy-settings

help:  ## list the targets
	@grep -hE '^[a-z -]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 15

setup: $(VENV)/.installed  ## create .venv with fvar and its development tools

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

# The demo: one folder per stage. A complete folder is kept; an interrupted training starts again.
FVAR := $(BIN)/fvar

demo: $(RUN)/eval/manifest.json $(RUN)/uniform-eval/manifest.json $(RUN)/clusters/manifest.json  ## all stages on toy videos, to accuracy and a page of clusters
	@echo "top-1 on clips not trained on (chance 25 %):"
	@$(FVAR) compare $(RUN)/uniform-eval $(RUN)/eval --out $(RUN)/comparison --overwrite
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

browser: setup  ## what the tests of pages need beside Python: chromium (as root, on Debian) and axe-core from npm
	command -v chromedriver || (apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q chromium-driver)
	npm install --prefix $(VENV) --no-save --silent --no-audit --no-fund axe-core@4

lint: setup  ## ruff, its formatter, and the layers between files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: setup  ## mypy, strict
	$(BIN)/mypy

test: setup  ## all tests, with branch coverage
	$(BIN)/python -m pytest --cov --cov-report=term

test-fast: setup  ## the tests that are not marked slow
	$(BIN)/python -m pytest -m "not slow"

mutants: setup  ## change the method in each way of tools/mutations.toml; a test must fail each time (4 minutes)
	$(BIN)/python tools/mutants.py

bench gpu: export OMP_WAIT_POLICY = PASSIVE  # as the command sets it
bench: setup  ## time and memory of the engines, the store, the loader, extraction and kept representations, as ratios within one run (half an hour)
	$(BIN)/python benchmarks/engines.py
	$(BIN)/python benchmarks/parts.py
	$(BIN)/python benchmarks/store.py
	$(BIN)/python benchmarks/loader.py
	$(BIN)/python benchmarks/extraction.py
	$(BIN)/python benchmarks/long.py --control
	$(BIN)/python benchmarks/cheaper_backward.py
	$(BIN)/python benchmarks/kept.py $(DATA) $(if $(WEIGHTS),--weights $(WEIGHTS))

# Hours on one core; a run whose row is in benchmarks/results is not repeated. Processes may share a table: see run.py --only.
accuracy-toy accuracy-untrimmed accuracy-trimmed accuracy-settings: setup  ## train and evaluate what is missing of a table (WEIGHTS=FILE of MobileNetV2); print all tables
	$(BIN)/python benchmarks/accuracy/run.py $(@:accuracy-%=%) $(DATA) $(if $(WEIGHTS),--weights $(WEIGHTS))
	$(BIN)/python benchmarks/accuracy/report.py

gpu: setup  ## every check and figure that needs a GPU; prints a table for benchmarks/README.md
	@if $(BIN)/python -c "import sys, torch; sys.exit(not torch.cuda.is_available())"; then \
		$(BIN)/python -m pytest -m gpu && $(BIN)/python benchmarks/gpu.py; \
	else \
		echo "no GPU: torch finds none, so nothing was checked"; \
	fi

# Gradients are compared in networks that were trained without clustering, and in the demo's network. Add your own videos with
# make gradients FRAMES=runs/clips/frames [WEIGHTS=FILE] [NAME=clips] [BACKBONE=resnet50] [SIZE=224]
# and your own trainings with TRAININGS="NAME=FOLDER ...".
GRADIENTS := runs/gradients
NAME ?= own
BACKBONE ?= mobilenet_v2
SIZE ?= 112
VIDEOS ?= 16
OWN := $(if $(FRAMES),$(GRADIENTS)/$(NAME))

gradients: $(GRADIENTS)/toy/manifest.json $(RUN)/train/manifest.json $(if $(OWN),$(OWN)/manifest.json)  ## cosine of each method's gradient to the gradient over all frames: table and plot
	@$(if $(OWN),,echo "FRAMES is not set: the toy set alone; see the Makefile for videos of your own")
	$(BIN)/python benchmarks/gradients/gradients.py --out $(GRADIENTS) --videos $(VIDEOS) \
		toy=$(GRADIENTS)/toy toy-trained=$(RUN)/train $(if $(OWN),$(NAME)=$(OWN)) $(TRAININGS)

$(GRADIENTS)/toy/manifest.json: $(RUN)/frames/manifest.json
	$(FVAR) train $(<D) --recipe toy --clustering none --epochs 10 --seed 0 --out $(@D) --overwrite

ifdef OWN
$(OWN)/manifest.json: $(FRAMES)/manifest.json
	$(FVAR) train $(FRAMES) --backbone $(BACKBONE) --weights $(or $(WEIGHTS),imagenet) --size $(SIZE) \
		--clustering uniform --clusters 8 --epochs 6 --seed 0 --out $(@D) --overwrite
endif

damage: setup  ## cut real clips (DATA=folder) short and flip bytes in hundreds of places; print the verdicts (3 minutes)
	$(BIN)/python benchmarks/damage.py $(DATA)

interruptions: setup  ## kill an extraction at 30 random moments, rerun it each time, and compare the store (2 minutes)
	PYTHONPATH=tests/helpers $(BIN)/python tools/kill_sweep.py 30 0

clean:  ## remove .venv, caches and the demo's runs
	rm -rf $(VENV) $(RUN) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .coverage
