# One environment in .venv; each target does only what is out of date. `make` lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup demo test slow fix lint examples bench docs check clean

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check
WORKERS ?= 2
ARGS ?=

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

setup: $(VENV)/.test  ## make .venv with treadle (editable) and the test tools

demo: $(VENV)/.core  ## install treadle alone and train a small GPT on Python's own sources
	@$(BIN)/treadle train gpt $(ARGS)

test: $(VENV)/.test  ## run the tests that are not slow
	@$(BIN)/python -m pytest -q -n $(WORKERS) $(ARGS)

slow: $(VENV)/.test  ## run the tests that take long or measure time
	@$(BIN)/python -m pytest -q -m slow $(ARGS)

fix: $(VENV)/.test  ## format, repair what ruff can, write the generated parts of the README, the tour and the coverage
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix . && $(BIN)/python docs/readme.py && $(BIN)/python docs/tour.py && \
	  $(BIN)/python docs/coverage.py

lint: $(VENV)/.test  ## ruff, pyright and the layer contracts
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/pyright --pythonpath $(BIN)/python && $(BIN)/lint-imports

examples: $(VENV)/.test  ## run every example in its small setting
	@for file in $(wildcard examples/*.py); do echo "$$file"; TREADLE_EXAMPLE=small $(BIN)/python -W error "$$file" > /dev/null; done

bench: $(VENV)/.bench  ## measure treadle beside torch eager, torch.compile and JAX
	@$(BIN)/python bench/run.py $(ARGS)

docs: $(VENV)/.docs  ## build the documentation into site/
	@$(BIN)/mkdocs build -q --strict && echo "site/index.html"

check: lint test examples  ## all that a change must pass

clean:  ## remove the environment and everything that was built
	rm -rf $(VENV) site dist build bench-results .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# ---- the environment: one stamp file per set of extras, older than pyproject.toml means out of date

$(BIN)/python:
	@python=; for name in $${PYTHON:-} python3 python3.14 python3.13 python3.12 python3.11; do \
	  if $$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then python=$$name; break; fi; done; \
	if [ -z "$$python" ]; then echo "make: no Python >= 3.11 found: $$(python3 --version 2>&1 || true)." \
	  "Install one, or name it: make PYTHON=/path/to/python3.11" >&2; exit 1; fi; \
	if ! $$python -m venv $(VENV); then rm -rf $(VENV); echo "make: $$python cannot make a virtual environment." \
	  "On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; fi

$(VENV)/.core: pyproject.toml | $(BIN)/python
	@echo "installing treadle into $(VENV) ..."
	@$(PIP) --editable .
	@touch $@

$(VENV)/.test: pyproject.toml | $(BIN)/python
	@echo "installing treadle and its test tools into $(VENV) (about a minute) ..."
	@$(PIP) --editable '.[test]'
	@touch $(VENV)/.core $@

$(VENV)/.bench: pyproject.toml | $(BIN)/python
	@echo "installing treadle and the frameworks it is measured beside into $(VENV) (about a minute) ..."
	@$(PIP) --editable '.[bench]'
	@touch $(VENV)/.core $@

$(VENV)/.docs: pyproject.toml | $(BIN)/python
	@$(PIP) --editable '.[docs]'
	@touch $(VENV)/.core $@
