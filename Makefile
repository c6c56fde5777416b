# Every target sets up what it needs: a bare machine needs Python 3.11+ with pip, and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
FUZZ_SECONDS ?= 60

.PHONY: help demo test test-quick crash fuzz lint format docs gallery site wheel clean

help: ## what can be made
	@sed -n 's/^\([a-z-]*\):.*## /  make \1: /p' Makefile

$(READY): setup.cfg pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "cvtrain needs Python 3.11 or newer; try: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

demo: $(READY) ## train on scikit-learn's handwritten digits, offline, in minutes
	$(BIN)/cvtrain fit configs/digits.yaml
	@echo 'To have cvtrain at hand in this shell: source $(BIN)/activate'

# In the order of their names, the slowest files are not the last, for which one process would wait.
test: $(READY) lint ## lint, import contracts, every test
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

test-quick: $(READY) ## the tests for daily work: of every package, without whole commands
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder \
		-m 'not slow and not realdata' \
		--ignore tests/robustness --ignore tests/commands --ignore tests/test_cli.py

crash: $(READY) ## kill commands at random moments, for hours; goes on where it was stopped
	mkdir -p build
	PYTHONPATH=tests $(BIN)/python -m robustness.crash --json build/crash.jsonl
	PYTHONPATH=tests $(BIN)/python -m robustness.crash.stock --json build/crash-stock.jsonl

fuzz: $(READY) ## look for inputs that break a promise: FUZZ_SECONDS for each target, see docs/fuzzing.md
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --only-binary :all: atheris || true
	PYTHONPATH=tests $(BIN)/python tests/robustness/fuzz/campaign.py $(FUZZ_SECONDS)

lint: $(READY) ## format, lint, types and imports, checked only
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --config setup.cfg

format: $(READY) ## format, and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(READY) ## write the reference from the code
	$(BIN)/python docs/generate.py

gallery: $(READY) ## make the pictures of docs/gallery.md again
	PATH="$(CURDIR)/$(BIN):$$PATH" sh docs/gallery.sh

site: $(READY) ## build the documentation as a site: build/site/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --config-file docs/site/mkdocs.yml
	@echo 'To read it: open build/site/index.html'

wheel: $(READY) ## build dist/cvtrain-*.whl
	$(BIN)/python -m build --wheel

clean: ## remove the environment and what was built
	rm -rf $(VENV) build dist *.egg-info
