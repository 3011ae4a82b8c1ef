# Two commands for a new user: `make run` and `make test`. Everything else is for who works on it.
PYTHON ?= python3
PORT ?= 8080
VENV := .venv
BIN := $(VENV)/bin
COMPILE := $(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-strip-extras --no-header --no-annotate

.DEFAULT_GOAL := help
.PHONY: help run demo peers test test-quick lint format bench faults figures upgrade lock clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(VENV)/.created:
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version) if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.runtime: requirements/runtime.txt pyproject.toml | $(VENV)/.created
	$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r requirements/runtime.txt
	$(BIN)/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: requirements/dev.txt pyproject.toml | $(VENV)/.created
	$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r requirements/dev.txt
	$(BIN)/pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@ $(VENV)/.runtime

run: $(VENV)/.runtime ## the whole engine on this machine, nothing else needed (PORT=8080; settings in .env, see .env.example)
	@exec $(BIN)/payment-engine $(if $(wildcard .env),--env-file .env) dev --port $(PORT)

demo: $(if $(GATEWAY),$(VENV)/.dev,$(VENV)/.runtime) ## a scripted tour against a fresh engine, shown as a timeline (GATEWAY=…: at a peer of that gateway)
	@exec $(BIN)/$(if $(GATEWAY),python -m tests.peers.demo $(GATEWAY),payment-engine demo)

peers: $(VENV)/.dev ## the gateways' peers that the tests run against, fetched once (needs Node.js and Go)
	$(BIN)/python -m tests.peers

test: $(VENV)/.dev ## the whole suite, real Apache Kafka included, in two halves side by side
	$(BIN)/python -m tests.peers --or-skip
	$(BIN)/python -m tests.side_by_side
	$(BIN)/coverage report --skip-covered
	$(BIN)/coverage report --skip-covered --include='streams/domain/*' --fail-under=100

test-quick: $(VENV)/.dev ## what needs no Apache Kafka
	$(BIN)/pytest -m "not kafka"

lint: $(VENV)/.dev ## ruff, mypy, import-linter, and what is published of the interfaces
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -q tests/contract/test_published_documents.py

format: $(VENV)/.dev ## write what ruff would have it be
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.dev ## throughput, latency, CPU and memory on real Apache Kafka
	$(BIN)/python -m bench

faults: $(VENV)/.dev ## the long fault run: 100,000 operations, 300 faults, three brokers (FAULTS='--faults 20 --seed 7')
	$(BIN)/python -m tests.faults $(FAULTS)

upgrade: $(VENV)/.dev ## two releases side by side under load, there and back (UPGRADE='--minutes 60 --kill')
	$(BIN)/python -m tests.upgrade $(UPGRADE)

figures: $(VENV)/.dev ## one measured scenario (FIGURE=failover; `make figures` lists them)
	$(BIN)/python -m tests.faults.figures $(FIGURE)

lock: $(VENV)/.dev ## compile the hash-pinned locks again
	$(COMPILE) --extra dev --extra cloud --extra stripe pyproject.toml requirements/build.in -o requirements/dev.txt
	$(COMPILE) --extra cloud --extra stripe -c requirements/dev.txt pyproject.toml requirements/build.in -o requirements/cloud.txt
	$(COMPILE) -c requirements/dev.txt pyproject.toml requirements/build.in -o requirements/runtime.txt
	$(COMPILE) tests/peers/localstripe.in -o tests/peers/localstripe.txt

clean: ## remove the environment and what tests left
	rm -rf $(VENV) .coverage htmlcov .mypy_cache .ruff_cache .pytest_cache .hypothesis .kafka .peers .payment-engine
