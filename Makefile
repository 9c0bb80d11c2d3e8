# Learning-rate annealing, measured. `make run-all` executes the course, `make test` checks it.
SHELL := bash
# GNU Make 3.81 passes this over, so recipes of several commands say `set -e` or `||` themselves.
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup lock run-all test test-all unit nbval accept check lint lab benchmark dist clean

PROFILE ?= quick
JOBS ?=
NB ?=
FRESH ?=
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
.PRECIOUS: $(STAMP) # it appears with a whole environment, so a signal is no reason to delete it
RUN := $(BIN)/python -m tools.notebooks
PYTEST := $(BIN)/python -m pytest -q -n 2 --dist worksteal

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-10s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))
	@echo "Variables: PROFILE=quick|full, NB=02_step_decay (one notebook), JOBS=2, PYTHON=python3.12,"
	@echo "FRESH=1 (run-all computes again what is in the store of results; lab copies the course anew"
	@echo "and sets what you changed aside)"
	@echo "To end it: Ctrl-C; in the background, where shells make it ignore SIGINT, kill PID."

setup: $(STAMP) ## the environment in .venv, from hashed requirements
	@echo "$(VENV) is ready."

$(STAMP): requirements.txt pyproject.toml
	@exec bash tools/setup.sh $(VENV) $(PYTHON)

lock: ## compile requirements.txt from pyproject.toml (needs uv)
	@command -v uv >/dev/null || { echo "uv is needed for this target: pip install uv" >&2; exit 1; }
	uv pip compile -q --universal --generate-hashes --no-emit-index-url --no-header --python-version 3.11 --extra all --group test pyproject.toml -o requirements.txt

# `exec`: make passes SIGTERM on to its child alone, which has to be the program, not a shell.
run-all: $(STAMP) ## run every notebook once, regenerate figures/ (skips what has not changed)
	@exec $(RUN) run $(NB) --profile $(PROFILE) $(if $(JOBS),--jobs $(JOBS)) $(if $(FRESH),--fresh)

test: $(STAMP) ## unit tests, notebooks executed once and compared, gates
	@exec $(RUN) run --own-store --then $(PYTEST) tests notebooks --executed build/quick

test-all: $(STAMP) ## all of `make test`, the wheel, browsers, processes and faults; nothing may be absent
	@exec $(RUN) run --own-store --then $(PYTEST) tests notebooks --executed build/quick --everything

unit: $(STAMP) ## the unit tests alone
	@$(PYTEST) tests

nbval: $(STAMP) ## nbval as it comes: run the notebooks again, cell by cell
	@ANNEAL_STORE=off $(BIN)/python -m pytest --nbval --nbval-current-env $(if $(NB),$(NB:%=notebooks/%.ipynb),notebooks)

accept: $(STAMP) ## take the executed notebooks as the new committed ones
	@$(RUN) accept $(NB)

check: $(STAMP) ## hold the committed notebooks against the gates
	@$(RUN) check $(NB)

lint: $(STAMP) ## ruff, notebooks included
	@$(BIN)/ruff check --extend-exclude '$(VENV)*' .
	@$(BIN)/ruff format --check --extend-exclude '$(VENV)*' .

lab: $(STAMP) ## open a copy of the course, build/lab, in JupyterLab; what you change there is kept
	@$(BIN)/python -m tools.lab$(if $(FRESH), --fresh)
	@exec $(BIN)/jupyter lab --ServerApp.root_dir=build --LabApp.default_url=/lab/tree/lab

benchmark: $(STAMP) ## many-run trainer against a loop of fit, as ratios
	@$(BIN)/python benchmarks/trainer.py

dist: $(STAMP) ## the package, as sdist and wheel, in build/dist (no network)
	@rm -rf build/dist && mkdir -p build/dist
	@$(BIN)/python -m build --no-isolation --outdir build/dist . >build/dist.log 2>&1 || { cat build/dist.log >&2; exit 1; }
	@ls -l build/dist

clean: ## remove what was built (neither .venv nor your copy of the course, build/lab)
	@rm -rf .pytest_cache .ruff_cache .hypothesis
	@test ! -d build || find build -mindepth 1 -maxdepth 1 ! -name lab -exec rm -rf {} +
