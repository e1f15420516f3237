# make up      run the whole system on this machine
# make test    all checks and tests
# make gen     gen/ from protos/ (also done by itself when a proto changed)
# make bench   all tables and plots of docs/benchmarks/ again, page by page as below; 3 to 4 hours
# make bench-overhead   CPU, latency and throughput beside smg, vllm-router and LiteLLM, which it installs; 100 min
# make bench-vllm       routing on real vLLM; 3 min
# make bench-tokenizer   what encoding costs, cold and warm; 1 min
# make bench-placing    placements a second, bursts, fairness; 10 min
# make bench-index      the prefix index; 15 min
# make bench-routing    policies on MOONCAKE=FILE, the trace that docs/benchmarks/routing.md names; an hour
# make clean   forget what was generated and installed here

# The locks are made for this Python; any later one that has their wheels does too.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
HARDWARE := $(shell nvidia-smi -L >/dev/null 2>&1 && echo gpu || echo cpu)
LOCK := requirements/$(HARDWARE).lock
INSTALLED := $(VENV)/.installed-$(HARDWARE)
GENERATED := gen/.generated
PIP := $(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --no-compile

# The peers that bench/overhead measures beside this; both may be environments that are there already.
PEERS ?= .peers
LITELLM ?= .peers-litellm
PAGES := overhead vllm tokenizer placing index routing
# Tables on Mooncake's trace are left as they are without it.
MOONCAKE ?=
export MOONCAKE

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help up down test bench gen setup valgrind clean $(PAGES:%=bench-%)

help:
	@sed -n 's/^# make/make/p' Makefile

up: setup
	@$(BIN)/headway up $(UP)

down: setup
	@$(BIN)/headway down

setup: $(INSTALLED) $(GENERATED)

gen:
	@rm -f $(GENERATED)
	@$(MAKE) --no-print-directory $(GENERATED)

# --no-deps: each lock is complete. Compiled in parallel afterwards, which pip cannot; without it
# six processes would each compile vLLM and torch at every start where Python may not write them.
$(INSTALLED): $(LOCK) requirements/dev.lock pyproject.toml setup.py
	@begun=$$SECONDS; \
	test -x $(BIN)/python || { echo "making $(VENV)"; $(PYTHON) -m venv $(VENV); }; \
	echo "installing $$(grep -c == $(LOCK)) packages of $(LOCK), once; a minute or two"; \
	$(PIP) --no-deps -r $(LOCK); \
	echo "installing $$(grep -c == requirements/dev.lock) packages of requirements/dev.lock"; \
	$(PIP) --no-deps -r requirements/dev.lock; \
	$(BIN)/python -c 'import torch' 2>/dev/null || { \
	  echo "completing torch: this is its CUDA build (PIP_EXTRA_INDEX_URL can name an index of CPU builds)"; \
	  $(PIP) -c $(LOCK) torch; }; \
	$(PIP) --no-deps --no-build-isolation --editable .; \
	$(BIN)/python -m compileall -q -j 0 $(VENV)/lib >/dev/null 2>&1 || true; \
	echo "installed in $$((SECONDS - begun)) s"
	@touch $@

$(GENERATED): $(INSTALLED) $(shell find protos -name '*.proto')
	@$(BIN)/python setup.py --quiet generate
	@touch $@

# $(call debian,COMMAND,WHAT): install the package of the command's name where the command is missing;
# WHAT needs it.
define debian
command -v $(1) >/dev/null || { \
	  test "$$(id -u)" -eq 0 && command -v apt-get >/dev/null || { \
	    echo "$(2) needs $(1), and only root can install it: apt-get install $(1)"; exit 1; }; \
	  echo "installing $(1)"; \
	  apt-get update -qq; \
	  DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends $(1) >/dev/null; }
endef

# What tests/cost counts instructions with. Elsewhere than on x86-64 those tests are skipped.
valgrind:
	@test "$$(uname -m)" != x86_64 || $(call debian,valgrind,tests/cost)

# $(call stage,NAME,COMMAND): run it, say how long it took.
define stage
	@begun=$$SECONDS; echo "-- $(1)"; $(2) || { echo "-- $(1) FAILED"; exit 1; }; \
	echo "-- $(1): $$((SECONDS - begun)) s"
endef

# The official Node SDKs, for tests/end_to_end/test_node_sdk.py.
NODE_SDKS := tests/node/node_modules/.package-lock.json

$(NODE_SDKS): tests/node/package.json tests/node/package-lock.json
	@$(call debian,npm,the test of the Node SDKs)
	@cd tests/node && npm ci --silent --no-audit --no-fund
	@touch $@

test: setup valgrind $(NODE_SDKS)
	$(call stage,format,$(BIN)/ruff format --check --quiet .)
	$(call stage,lint,$(BIN)/ruff check --quiet .)
	$(call stage,types,$(BIN)/mypy services observability command bench tests)
	$(call stage,import contracts,$(BIN)/lint-imports --no-cache)
	$(call stage,protos,$(BIN)/buf lint && $(BIN)/buf format --diff --exit-code)
	$(call stage,protos against main,! git rev-parse --quiet --verify main >/dev/null || $(BIN)/buf breaking --against '.git#branch=main')
	$(call stage,tests,$(BIN)/pytest $(PYTEST))

bench: $(PAGES:%=bench-%)

bench-overhead: setup $(PEERS)/.installed $(LITELLM)/.installed
	$(call stage,overhead,$(BIN)/python -m bench.overhead --peers $(PEERS) --litellm $(LITELLM) $(BENCH))

$(filter-out bench-overhead,$(PAGES:%=bench-%)): bench-%: setup
	$(call stage,$*,$(BIN)/python -m bench.pages docs/benchmarks/$*.md $(BENCH))

$(PEERS)/.installed: requirements/peers.txt
	$(call peers,$(@D),$<)

$(LITELLM)/.installed: requirements/peers-litellm.txt
	$(call peers,$(@D),$<)

# $(call peers,FOLDER,LOCK): a virtual environment of its own, with exactly what the lock names.
define peers
	@test -x $(1)/bin/python || { echo "making $(1)"; $(PYTHON) -m venv $(1); }
	@echo "installing $$(grep -c == $(2)) packages of $(2)"
	@$(1)/bin/python -m pip install --quiet --quiet --disable-pip-version-check --no-deps -r $(2)
	@touch $@
endef

clean:
	rm -rf $(VENV) gen build *.egg-info .headway .peers .peers-litellm
