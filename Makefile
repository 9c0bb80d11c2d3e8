# Learning-rate annealing, measured. `make run-all` executes the course, `make test` checks it.
SHELL := bash
# GNU Make 3.81 passes this over, so recipes of several commands say `set -e` or `||` themselves.
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup lock run-all test unit nbval accept check lint lab benchmark clean

PROFILE ?= quick
JOBS ?=
NB ?=
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
RUN := $(BIN)/python -m tools.notebooks
PYTEST := $(BIN)/python -m pytest -q -n 2 --dist worksteal
VERSION_OK := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-10s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))
	@echo "Variables: PROFILE=quick|full, NB=02_step_decay (one notebook), JOBS=2, PYTHON=python3.12"

setup: $(STAMP) ## the environment in .venv, from hashed requirements
	@echo "$(VENV) is ready."

$(STAMP): requirements.txt pyproject.toml
	@set -e; python=; for candidate in $(PYTHON) python3 python3.13 python3.12 python3.11; do \
	  if command -v "$$candidate" >/dev/null && "$$candidate" -c '$(VERSION_OK)' 2>/dev/null; \
	  then python="$$candidate"; break; fi; \
	  if [ "$$candidate" = "$(PYTHON)" ]; then python=; break; fi; done; \
	if [ -z "$$python" ]; then echo "Python 3.11, 3.12 or 3.13 is needed: install one, or name it: make PYTHON=/path/to/python3.12" >&2; exit 1; fi; \
	echo "Setting up $(VENV) with $$("$$python" --version) ..."; \
	rm -rf $(VENV); \
	if command -v uv >/dev/null; then \
	  uv venv -q --python "$$(command -v "$$python")" $(VENV); \
	  uv pip install -q --python $(BIN)/python --require-hashes --compile-bytecode -r requirements.txt; \
	  uv pip install -q --python $(BIN)/python --no-deps --no-build-isolation -e .; \
	else \
	  "$$python" -m venv $(VENV) || { echo "Python's venv module is missing: install it (on Debian: apt install python3-venv)" >&2; exit 1; }; \
	  $(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements.txt; \
	  $(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .; \
	fi
	@mkdir -p $(VENV)/etc/ipython
	@echo "c.IPKernelApp.capture_fd_output = False" > $(VENV)/etc/ipython/ipython_kernel_config.py
	@touch $@

lock: ## compile requirements.txt from pyproject.toml (needs uv)
	@command -v uv >/dev/null || { echo "uv is needed for this target: pip install uv" >&2; exit 1; }
	uv pip compile -q --universal --generate-hashes --no-emit-index-url --no-header --python-version 3.11 --group test pyproject.toml -o requirements.txt

run-all: $(STAMP) ## run every notebook once, regenerate figures/ (skips what has not changed)
	@$(RUN) run $(NB) --profile $(PROFILE) $(if $(JOBS),--jobs $(JOBS))

test: $(STAMP) ## everything: unit tests, notebooks executed once and compared, gates
	@trap 'exit 130' INT; failed=; $(RUN) run || failed=1; \
	$(PYTEST) tests notebooks --executed build/quick || failed=1; \
	test -z "$$failed"

unit: $(STAMP) ## the unit tests alone
	@$(PYTEST) tests

nbval: $(STAMP) ## nbval as it comes: run the notebooks again, cell by cell
	@$(BIN)/python -m pytest --nbval --nbval-current-env $(if $(NB),$(NB:%=notebooks/%.ipynb),notebooks)

accept: $(STAMP) ## take the executed notebooks as the new committed ones
	@$(RUN) accept $(NB)

check: $(STAMP) ## hold the committed notebooks against the gates
	@$(RUN) check $(NB)

lint: $(STAMP) ## ruff, notebooks included
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

lab: $(STAMP) ## open the course in JupyterLab
	@$(BIN)/jupyter lab notebooks

benchmark: $(STAMP) ## many-run trainer against a loop of fit, as ratios
	@$(BIN)/python benchmarks/trainer.py

clean: ## remove what was built (not .venv)
	@rm -rf build .pytest_cache .ruff_cache .hypothesis
