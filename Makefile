# Everything that people and CI do with this repository. `make help` lists it.
SHELL := /bin/sh
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
PYTHON_SETTINGS := pyproject.toml constraints.txt
LOCALNET := $(VENV)/.localnet-installed
DEV := $(VENV)/.dev-installed
NODE_MODULES := contracts/node_modules/.installed

# One thread per process: the sums of a training step keep their order, and tests don't fight over the cores.
export OMP_NUM_THREADS := 1
export PATH := $(CURDIR)/$(BIN):$(CURDIR)/contracts/node_modules/.bin:$(PATH)

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile

.PHONY: demo
demo: $(LOCALNET) $(NODE_MODULES) $(if $(filter docker,$(SANDBOX)),image) ## Run the whole market on this machine (SANDBOX=docker: jobs in containers)
	@$(BIN)/gristmill localnet demo $(if $(SANDBOX),--sandbox $(SANDBOX)) $(ARGS)

.PHONY: test
test: $(DEV) $(NODE_MODULES) ## Run all tests (ARGS="-k money" for some)
	@cd contracts && forge test
	@$(BIN)/python -m pytest $(ARGS)

.PHONY: check
check: $(DEV) $(NODE_MODULES) ## Lint, types, boundaries between the parts, generated code
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@cd contracts && forge fmt --check
	@scripts/check-generated
	@$(BIN)/python -m pytest -q tests/test_architecture.py tests/infra

.PHONY: fmt
fmt: $(DEV) $(NODE_MODULES) ## Format the code and fix what the linter can
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .
	@cd contracts && forge fmt

.PHONY: proto
proto: $(DEV) ## Generate Python from the .proto files
	@scripts/proto

.PHONY: contracts
contracts: $(DEV) $(NODE_MODULES) ## Install the EVM node, build the contracts and their Python artifacts
	@$(BIN)/python contracts/generate.py

.PHONY: bench
bench: $(DEV) $(NODE_MODULES) ## Run every benchmark
	@scripts/bench

.PHONY: image
image: | $(BIN)/python ## Build the image that jobs run in
	@scripts/image

.PHONY: up
up: ## Start Postgres, a dev chain, a coordinator and two nodes with Docker Compose
	@scripts/compose --profile dev up --build $(ARGS)

.PHONY: clean
clean: ## Remove everything that make made
	rm -rf $(VENV) .demo .localnet .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist
	rm -rf contracts/node_modules contracts/out contracts/cache contracts/broadcast
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp is younger than what was installed from it; changing pyproject.toml, say, installs again.
$(BIN)/python:
	@scripts/setup venv

$(LOCALNET): $(PYTHON_SETTINGS) | $(BIN)/python
	@scripts/setup extra localnet
	@touch $@

$(DEV): $(PYTHON_SETTINGS) | $(BIN)/python
	@scripts/setup extra dev
	@touch $@ $(LOCALNET)

$(NODE_MODULES): contracts/package.json | $(BIN)/python
	@scripts/setup contracts
	@touch $@
