# Every command of the project. `make` alone lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
HOST ?= 127.0.0.1
PORT ?= 8000
ARGS ?=

# A stamp is newer than the lock it was installed from, so a second run installs nothing.
SERVE_STAMP := $(VENV)/.serve-installed
EVAL_STAMP := $(VENV)/.eval-installed
TEST_STAMP := $(VENV)/.test-installed
OLD_SDK_STAMP := .venv-old-sdk/.installed
NODE_STAMP := tests/contract/typescript/node_modules/.installed
PIP := -m pip install --quiet --quiet --disable-pip-version-check --no-input --no-deps --require-hashes -r

.PHONY: help
help: ## list the commands
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: serve
serve: $(SERVE_STAMP) ## install what is needed and serve the embedded model (HOST=127.0.0.1 PORT=8000)
	@exec $(BIN)/sestet serve --host $(HOST) --port $(PORT) $(ARGS)

.PHONY: chat
chat: $(SERVE_STAMP) ## talk to a running server in the terminal (PORT=8000)
	@exec $(BIN)/sestet chat --url http://$(HOST):$(PORT) $(ARGS)

.PHONY: eval
eval: $(EVAL_STAMP) ## measure accuracy against thinking budget on a running server (PORT=8000)
	@exec $(BIN)/sestet eval reasoning --url http://$(HOST):$(PORT) $(ARGS)

# Hundreds of servers are started: they compile the source once only if they may keep what they compiled.
test soak: export PYTHONDONTWRITEBYTECODE :=

# The tests of a file share what it starts, so a file goes to one worker. Those that take long are begun first
# (tests/conftest.py): one of them at the end would keep one worker busy while the other has nothing left.
.PHONY: test
test: $(TEST_STAMP) $(OLD_SDK_STAMP) $(NODE_STAMP) ## install what is needed and run all tests (ARGS="-k stop")
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not alone" $(ARGS) || test $$? -eq 5
	$(BIN)/python -m pytest -m alone $(ARGS) || test $$? -eq 5

.PHONY: soak
soak: export SESTET_SOAK := 1
soak: test ## the same tests at full length (an hour or so)

.PHONY: check
check: $(TEST_STAMP) ## the gate: format, lint, types, layers
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: fix
fix: $(TEST_STAMP) ## apply the formatting and lint fixes that can be applied
	$(BIN)/ruff check --quiet --fix . ; $(BIN)/ruff format --quiet .

.PHONY: bench
bench: $(TEST_STAMP) ## run the benchmarks side by side, ratios first (half an hour; ARGS=cache runs one)
	$(BIN)/python -m bench $(ARGS)

.PHONY: update
update: $(TEST_STAMP) ## rewrite golden transcripts and generated sections of the manual
	UPDATE_GOLDEN=1 $(BIN)/python -m pytest -q tests/contract/test_golden.py tests/meta $(ARGS)

.PHONY: lock
lock: ## resolve the dependency locks anew (needs uv)
	@for name in serve test eval old-sdk; do \
	  sources=requirements/$$name.in; [ $$name = serve ] && sources="pyproject.toml $$sources"; \
	  uv pip compile --quiet --upgrade --generate-hashes --no-annotate --no-header --no-emit-index-url \
	    --python-version 3.11 $$sources -o requirements/$$name.txt || exit 1; done

.PHONY: clean
clean: ## remove what the commands above installed
	rm -rf $(VENV) .venv-old-sdk tests/contract/typescript/node_modules

$(SERVE_STAMP): requirements/serve.txt pyproject.toml
	@echo "Installing Sestet and the embedded model into $(VENV) (once, about 150 MB)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python $(PIP) requirements/serve.txt
	@$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

# Some of what the tasks need is source alone (a C compiler builds it). Its build tool is in the lock too, and goes first.
$(EVAL_STAMP): $(SERVE_STAMP) requirements/eval.txt
	@echo "Installing the tasks of sestet eval into $(VENV) (once, about 60 MB)"
	@$(BIN)/python $(PIP) <(sed -n '/^setuptools==/,/[^\\]$$/p' requirements/eval.txt)
	@$(BIN)/python $(PIP) requirements/eval.txt --no-build-isolation
	@touch $@

$(TEST_STAMP): $(EVAL_STAMP) requirements/test.txt
	@echo "Installing the test tools into $(VENV)"
	@$(BIN)/python $(PIP) requirements/test.txt
	@touch $@

$(OLD_SDK_STAMP): requirements/old-sdk.txt
	@echo "Installing the last Python SDK before 1.0 into .venv-old-sdk"
	@test -x .venv-old-sdk/bin/python || $(PYTHON) -m venv .venv-old-sdk
	@.venv-old-sdk/bin/python $(PIP) requirements/old-sdk.txt
	@touch $@

$(NODE_STAMP): tests/contract/typescript/package-lock.json
	@echo "Installing the TypeScript SDKs"
	@cd tests/contract/typescript && npm ci --silent --no-audit --no-fund
	@touch $@
