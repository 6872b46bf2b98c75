# `make` shows what there is. Each target installs what it needs.
SHELL := /bin/bash
.DEFAULT_GOAL := help

# Any Python from 3.11 to 3.13; say PYTHON=... to choose one.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
	2>/dev/null && { echo $$python; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
CODE := toolkit converters perf python_backend tests benchmarks

.PHONY: help demo test check format bench clean

help: ## Show this list.
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/demo.done ## Train, convert, prove and deploy real models on the embedded Triton.
	@$(BIN)/toolkit demo

test: $(VENV)/all.done $(VENV)/browser.done $(VENV)/postgresql.done ## Run the tests against the real embedded Triton.
	@$(BIN)/toolkit runtime install
	@$(BIN)/python -m pytest

check: $(VENV)/all.done ## Check format, style, types and the direction of imports.
	@$(BIN)/ruff format --check --quiet $(CODE)
	@$(BIN)/ruff check --quiet $(CODE)
	@$(BIN)/mypy
	@for file in $$(git ls-files 'python_backend/*model.py'); do \
		MYPYPATH=$$(dirname $$file):python_backend/backends $(BIN)/mypy --no-error-summary $$file || exit 1; done
	@$(BIN)/lint-imports --no-logo

format: $(VENV)/all.done ## Format the code and mend what can be mended.
	@$(BIN)/ruff format --quiet $(CODE)
	@$(BIN)/ruff check --fix --quiet $(CODE)

bench: $(VENV)/all.done ## Measure serving beside FastAPI (needs wrk: apt-get install wrk), the client beside tritonclient.
	@$(BIN)/toolkit runtime install
	@$(BIN)/python -m benchmarks.serving
	@$(PIP) --group bench
	@$(BIN)/python -m benchmarks.client

# The report is looked at in a real browser: the system's, or the one that playwright fetches.
$(VENV)/browser.done: $(VENV)/all.done
	@for browser in chromium chromium-browser google-chrome; do \
		command -v $$browser >/dev/null && exit 0; done; \
	echo "installing a browser for the tests (once)"; \
	if command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
		apt-get install -qq -y chromium fonts-dejavu-core >/dev/null; \
	else $(BIN)/playwright install chromium; fi
	@touch $@

# Jobs are kept in a real PostgreSQL.
$(VENV)/postgresql.done: $(VENV)/all.done
	@ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null || { \
	if command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
		echo "installing PostgreSQL for the tests (once)"; apt-get update -qq && \
		DEBIAN_FRONTEND=noninteractive apt-get install -qq -y postgresql >/dev/null; \
	else echo "error: the tests need PostgreSQL's server"; \
		echo "  try: apt-get install postgresql"; exit 1; fi; }
	@touch $@

clean: ## Remove the virtual environment and what the demo made; keep your models.
	@rm -rf $(VENV)

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11 to 3.13 found"; \
		echo "  try: apt-get install python3 python3-venv, or make PYTHON=/path/to/python3.12"; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) --upgrade 'pip>=25.1'

$(VENV)/demo.done: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo "installing into $(VENV) (once)"
	@$(PIP) --editable '.[sklearn,xgboost,lightgbm]'
	@touch $@

$(VENV)/all.done: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo "installing everything, torch too, into $(VENV) (once)"
	@$(PIP) --editable '.[all]' --group dev
	@touch $@ $(VENV)/demo.done
