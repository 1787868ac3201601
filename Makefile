# Everything that people and CI do with this repository. `make help` lists it.
SHELL := /bin/sh
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
PYTHON_SETTINGS := pyproject.toml constraints.txt
LOCALNET := $(VENV)/.localnet-installed
DEV := $(VENV)/.dev-installed
NODE_MODULES := contracts/node_modules/.installed
TOOLS := contracts/.tools

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
test: $(DEV) $(NODE_MODULES) ## Run the tests, but for the long ones (ARGS="-k money" for some)
	@cd contracts && forge test
	@cd contracts && FOUNDRY_PROFILE=release forge test --match-contract GasTest
	@$(BIN)/python -m pytest -n logical --dist loadfile --no-loadscope-reorder -m "not long" $(ARGS)

.PHONY: long
long: $(DEV) $(NODE_MODULES) ## Run the tests that take minutes: whole markets in containers, in a browser, from an owner's first step
	@$(BIN)/python -m pytest -m long $(ARGS)

.PHONY: honest
honest: $(DEV) ## See that none of a thousand honest segments, cut and gone on with anywhere, is taken for fraud
	@GRISTMILL_HONEST_SEGMENTS=1000 $(BIN)/python -m pytest tests/trainer/test_honest_segments.py

.PHONY: kills
kills: $(DEV) ## Kill a node at fifty random moments and see that nothing is lost, done twice or left behind
	@GRISTMILL_KILLS=50 $(BIN)/python -m pytest tests/provider_node/test_killed.py

.PHONY: check
check: $(DEV) $(NODE_MODULES) ## Lint, types, boundaries between the parts, generated code
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@cd contracts && forge fmt --check
	@$(BIN)/python contracts/tools/trees.py
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

.PHONY: deep
deep: $(NODE_MODULES) ## Test the contracts in depth: 10,000 runs of each fuzz test, and all tests on what is deployed
	@cd contracts && FOUNDRY_PROFILE=deep forge test
	@cd contracts && FOUNDRY_PROFILE=release forge test

.PHONY: prove
prove: $(TOOLS)/halmos/.installed $(NODE_MODULES) ## Prove the Ledger's invariants for every input (contracts/test/symbolic)
	@cd contracts && FOUNDRY_OUT=.tools/proofs-out FOUNDRY_CACHE_PATH=.tools/proofs-cache .tools/halmos/bin/halmos --no-status $(ARGS)

.PHONY: slither
slither: $(TOOLS)/slither/.installed $(NODE_MODULES) ## Look for known kinds of mistakes in the contracts
	@rm -rf $(TOOLS)/slither-out
	@cd contracts && forge build --force --skip 'test/**' --build-info --build-info-path .tools/slither-out/build-info \
		--out .tools/slither-out --cache-path .tools/slither-cache
	@cd contracts && .tools/slither/bin/slither . --ignore-compile --foundry-out-directory .tools/slither-out $(ARGS)

.PHONY: coverage
coverage: $(BIN)/python $(NODE_MODULES) ## Show which lines of the contracts no test reaches
	@$(BIN)/python contracts/tools/coverage.py

.PHONY: mutants
mutants: $(BIN)/python $(NODE_MODULES) ## Drop the contracts' checks one at a time and see that a test notices (ARGS="--sample 24")
	@$(BIN)/python contracts/tools/mutate.py $(ARGS)

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
	rm -rf $(TOOLS) contracts/node_modules contracts/out contracts/cache contracts/broadcast
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

# Each in an environment of its own: they pin old versions of what the rest needs.
$(TOOLS)/halmos/.installed: PACKAGE := halmos
$(TOOLS)/slither/.installed: PACKAGE := slither-analyzer
$(TOOLS)/%/.installed: contracts/tools/requirements.txt | $(BIN)/python
	@$(BIN)/python -m venv $(TOOLS)/$*
	@$(TOOLS)/$*/bin/python -m pip install --quiet --disable-pip-version-check -c contracts/tools/requirements.txt $(PACKAGE)
	@touch $@
