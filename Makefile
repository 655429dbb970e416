# Every target that needs the environment makes it first. A bare machine needs Python 3.11 or newer, make
# and a package index. `make help` lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
FUZZ := .venv-fuzz
INSTALLED := $(VENV)/.installed
READY := $(VENV)/.ready
SOURCES := $(shell find policies/warmroute_policies router/warmroute simulator/warmroute_simulator -name '*.py')
ARGS ?=
# Tests wait for sockets and timers nearly as long as they compute.
TESTERS := $(shell echo $$((2 * $$(getconf _NPROCESSORS_ONLN))))
LOCK_OPTIONS := --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links \
	--no-header --no-annotate --quiet

.PHONY: help setup demo test test-interpreted fuzz chaos lint format typecheck docs dashboards bench bench-dataplane bench-routing bench-tuning bench-beliefs bench-ablations bench-simulator bench-ring e2e load presubmit lock clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z][a-z0-9-]*:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY) ## Make .venv with the locked dependencies and this project (editable, hot modules compiled)

$(INSTALLED): requirements.lock pyproject.toml
	@python=$$(command -v python3.11 || command -v python3 || true); \
	if ! "$${python:-false}" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
		echo "setup: Python 3.11 or newer is needed (python3.11 or python3 on PATH)" >&2; exit 1; fi; \
	"$$python" -m venv $(VENV) || { \
		echo "setup: '$$python -m venv' failed; on Debian and Ubuntu install the package python3-venv" >&2; exit 1; }
	@echo "setup: installing the locked dependencies into $(VENV); once, about half a minute"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# Types of modules that are not compiled are built into those that are: any source may make them stale.
$(READY): $(INSTALLED) $(SOURCES) hatch_build.py $(if $(wildcard policies/*.so),,FORCE)
	@echo "setup: compiling the modules on a request's way; again when a source has changed, about a minute"
	@$(BIN)/python hatch_build.py
	@touch $@

FORCE:

demo: $(READY) ## Four built-in engines, a router and traffic; no GPU. ARGS="--once --json FILE" ends by itself
	$(BIN)/router demo $(ARGS)

# Files with many tests first, as is xdist's way, leaves those that take longest for last: they have few.
test: $(READY) ## The test suite. ARGS="-k name" narrows it
	$(BIN)/python -m pytest --numprocesses $(TESTERS) --dist loadfile --no-loadscope-reorder $(ARGS)

test-interpreted: $(INSTALLED) ## The tests of the core and of framing on the sources as they are, not compiled
	rm -rf build/interpreted
	mkdir -p build/interpreted
	cp -r policies router simulator build/interpreted
	find build/interpreted -name '*.so' -delete
	PYTHONPATH=build/interpreted/policies:build/interpreted/router:build/interpreted/simulator \
		$(BIN)/python -m pytest --numprocesses auto --dist loadfile $(or $(ARGS),tests/policies tests/router/test_exchange.py tests/router/test_framing.py tests/router/test_turns.py tests/tokens/test_rules.py tests/simulator/simulation tests/simulator/test_engine.py tests/simulator/test_tree_cache.py)

fuzz: $(READY) $(FUZZ)/.installed ## Look for input that breaks something (1 min a target). ARGS="--seconds 600 --target front"
	$(BIN)/python fuzz/run.py $(ARGS)

# Of its own: schemathesis wants other versions than the product. Nothing else is run from here.
$(FUZZ)/.installed: Makefile
	$(BIN)/python -m venv $(FUZZ)
	$(FUZZ)/bin/pip install --quiet --disable-pip-version-check 'schemathesis==4.32.5'
	@touch $@

chaos: $(READY) ## Break a fleet for 10 minutes and account for every request. ARGS="--minutes 1 --seed 7"
	$(BIN)/python bench/chaos.py $(ARGS)

lint: $(INSTALLED) ## ruff: formatting and lint rules
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

format: $(INSTALLED) ## Rewrite the sources in the house format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

typecheck: $(INSTALLED) ## mypy --strict over packages, tests, bench and docs
	$(BIN)/mypy

docs: $(READY) ## Write the generated pages of docs/ again
	$(BIN)/python docs/generate.py
	$(BIN)/python docs/walkthrough.py
	$(BIN)/python bench/routing.py --render
	$(BIN)/python bench/ablations.py --render
	$(BIN)/python bench/tuning.py --render
	$(BIN)/python bench/ring.py --render

dashboards: $(INSTALLED) ## Write grafana/dashboards/*.json again
	$(BIN)/python grafana/generate.py

bench: $(READY) ## Cost of one routing decision, and memory of the prefix index
	$(BIN)/python bench/decision.py $(ARGS)
	$(BIN)/python bench/index_memory.py $(ARGS)

bench-dataplane: $(READY) ## CPU per request and per streamed chunk, beside other proxies
	$(BIN)/python bench/dataplane.py $(ARGS)

bench-routing: $(READY) ## Every routing policy in the simulator, beside what none can beat (1 h; ARGS=--quick 5 min)
	$(BIN)/python bench/routing.py $(ARGS)

bench-tuning: $(READY) ## The defaults of cache_aware beside what a search finds (10 to 20 min; ARGS=--quick 2 min)
	$(BIN)/python bench/tuning.py $(ARGS)

bench-beliefs: $(READY) ## cache_aware with wrong capacities, wrong prices, emptied caches, and as replicas (3 min; ARGS=--quick 1 min)
	$(BIN)/python bench/beliefs.py $(ARGS)

bench-ablations: $(READY) ## cache_aware without each term of its price and each thing it learns (15 min after bench-routing; ARGS=--quick 5 min)
	$(BIN)/python bench/ablations.py $(ARGS)

bench-simulator: $(READY) ## Speed, fidelity, parity with a live fleet, and repeatability of the simulator
	$(BIN)/python bench/simulator.py $(ARGS)

bench-ring: $(READY) ## The real programs in front of the same engines: peers, nginx, LiteLLM, Dynamo (110 min; ARGS=--quick 8 min)
	$(BIN)/python bench/ring.py $(ARGS)

e2e: $(READY) ## Real engines on the CPU behind the router: vLLM, SGLang, llama.cpp (first run downloads some 4 GB)
	tests/e2e/engines/run.sh $(ARGS)

load: $(READY) ## Chat, agent and RAG users against HOST=http://… (60 s, 20 users, unless ARGS says otherwise)
	$(BIN)/locust --locustfile tests/load/locustfile.py --host "$${HOST:-http://127.0.0.1:30000}" \
		--headless --users 20 --spawn-rate 5 --run-time 60s $(ARGS)

presubmit: ## What continuous integration runs
	.ci/run

lock: ## Resolve requirements.lock and deploy/requirements-image.lock again (needs uv on PATH, or UV=/path/to/uv)
	$${UV:-uv} pip compile pyproject.toml --extra dev --extra load --extra simulator \
		--extra otel --extra dns --extra kubernetes --extra exact $(LOCK_OPTIONS) --upgrade \
		--output-file requirements.lock
	$(BIN)/python -c 'import tomllib; \
		print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' | \
		$${UV:-uv} pip compile pyproject.toml - --extra otel --extra dns --extra kubernetes --extra exact $(LOCK_OPTIONS) \
		--constraint requirements.lock --output-file deploy/requirements-image.lock

clean: ## Remove .venv and caches
	rm -rf $(VENV) $(FUZZ) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +
	find policies router simulator -name '*.so' -delete
