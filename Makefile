# Everything runs in .venv, which the first target that needs it makes. Only Python 3.11 or later and make are needed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# What the tests and the benchmarks need beyond a running site; a first `make run` does without.
BASE := $(VENV)/.installed
TEST := $(VENV)/.installed-test
BENCH := $(VENV)/.installed-bench
# How many "auto" is, and what comes first, says tests/conftest.py.
PARALLEL := -n auto --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help setup run demo test test-django42 lint bench clean

help: ## Show this list
	@echo "make …"
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-14s %s\n", $$1, $$2 }'

setup: $(BASE) $(TEST) ## Make .venv and install everything into it
	@echo "$(VENV) is ready."

run: $(BASE) $(if $(filter-out 0,$(S3)),$(TEST)) ## Start the site: broker, three media hosts, web, worker, beat, Flower (MOGILEFS=1 S3=1 PORT=… VAR=…)
	@$(BIN)/python -m project.run

demo: $(BASE) $(if $(filter-out 0,$(STAGING)),$(TEST)) ## Save a folder while things go wrong, then ask every host (FILES=a-folder LIMIT=seconds; STAGING=1: copy a live S3 instead)
	@$(BIN)/python -m project.demo $(if $(filter-out 0,$(STAGING)),--staging) $(if $(LIMIT),--limit "$(LIMIT)") $(if $(FILES),"$(FILES)")

# Kept bytecode: tests start hundreds of processes, and each would compile everything.
test: export PYTHONDONTWRITEBYTECODE =
test: $(TEST) ## Run the tests, on SQLite and, if it is installed, on PostgreSQL (ARGS=… for pytest; -n 0: in one process)
	@$(BIN)/python -m pytest $(PARALLEL) $(ARGS); status=$$?; \
	test $$status = 2 || $(BIN)/python -m tests.on_postgresql $(PARALLEL) $(ARGS) || status=1; \
	exit $$status  # 2: somebody has interrupted it

test-django42: ## Run the tests of the storage and the ledger on Django 4.2, in .venv-django42
	@test -x $(VENV)-django42/bin/python || $(PYTHON) -m venv $(VENV)-django42
	@$(VENV)-django42/bin/python -m pip install --quiet --disable-pip-version-check \
		$$(grep -v '^Django==' requirements.txt | grep '==') 'Django~=4.2.0' \
		$$(sed -n 's/.*"\(pytest[a-z-]*==[^"]*\)".*/\1/p; s/.*"\(hypothesis==[^"]*\)".*/\1/p' pyproject.toml)
	$(VENV)-django42/bin/python -m pytest -W ignore -p no:cacheprovider $(ARGS) tests/ledger tests/storage tests/delivery

lint: $(TEST) ## Style, types, layers, missing migrations
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python manage.py makemigrations --check --dry-run

bench: $(TEST) $(BENCH) ## Print the budgets, each beside its peer (ARGS=…)
	@$(BIN)/python -m benchmarks $(ARGS)

clean: ## Remove what tools left; .venv and var (the site's data) stay
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis htmlcov .coverage .coverage.*
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Python 3.11 or later is needed: write make PYTHON=python3.11 (or whatever it is called here)."; exit 1; }
	@echo "… making $(VENV)"
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "This Python can't make environments: install its venv module (Debian: apt install python3-venv)."; exit 1; }

$(BASE): requirements.txt pyproject.toml | $(BIN)/python
	@echo "… installing the packages (a minute or two, the first time)"
	@$(PIP) -r requirements.txt -e .
	@touch $@

$(TEST): $(BASE)
	@echo "… installing what the tests need"
	@$(PIP) -r requirements.txt -e '.[test]'
	@touch $@

$(BENCH): $(BASE)
	@echo "… installing what the benchmarks need"
	@$(PIP) -r requirements.txt -e '.[bench]'
	@touch $@
