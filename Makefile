# Everything here makes its own .venv when there is none, and needs only python3 (3.11 or newer), pip and make.

VENV := .venv
BIN := $(VENV)/bin
RUN_STAMP := $(VENV)/.installed-run
TEST_STAMP := $(VENV)/.installed-test
# A file's tests share one process, for they share servers and filesystems, too.
WORKERS := 2
IN_PARALLEL = -n $(WORKERS) --dist loadfile
INSTALLED_FROM := pyproject.toml constraints.txt contrib/make-venv

.PHONY: help demo test test-all lint bench clean
.DEFAULT_GOAL := help

help: ## what can be made
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/:.*## /	/' | expand -t 12

demo: $(RUN_STAMP) ## the whole story on a real database, in the terminal; leaves nothing behind
	$(BIN)/backupctl demo

test: $(TEST_STAMP) ## the fast tests
	$(BIN)/python -m pytest -q $(IN_PARALLEL) -m "not slow"

# The slow ones wait for servers more than they compute: one worker more than cores.
test-all: WORKERS := 3
test-all: $(TEST_STAMP) ## all tests, the slow ones too; an hour and a half on two cores
	$(BIN)/python -m pytest -q $(IN_PARALLEL) --timeout 1800

lint: $(TEST_STAMP) ## ruff, formatting, mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(RUN_STAMP) ## speed as ratios against zstd and b3sum, in one run
	$(BIN)/python contrib/bench/archive_speed.py

clean: ## remove what make made
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Installing the tests' needs installs all that a run needs too.
$(RUN_STAMP): $(INSTALLED_FROM)
	@contrib/make-venv $(VENV)
	@touch $@

$(TEST_STAMP): $(INSTALLED_FROM)
	@contrib/make-venv $(VENV) s3,encryption,postgres,service,test
	@touch $(RUN_STAMP) $@
