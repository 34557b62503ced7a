# Two commands do everything on a fresh machine, set-up included: `make demo` and `make test`.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test check benchmarks lock clean

demo: $(STAMP)
	@mkdir -p demo
	@test -f demo/study.toml || $(BIN)/hwloop init demo/study.toml
	$(BIN)/hwloop run demo/study.toml

test: $(STAMP) check
	$(BIN)/pytest -m "not board and not slow"

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Prints figures; asserts no time.
benchmarks: $(STAMP)
	$(BIN)/python -m tests.benchmarks

$(STAMP): pyproject.toml requirements.lock
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# Pins what the environment holds now: base dependencies and the dev extra.
lock:
	$(BIN)/python -m pip freeze --exclude-editable | sed -E 's/^torch==([0-9.]+).*/torch==\1/; s/^torch @ .*/torch==2.13.0/' > requirements.lock

clean:
	rm -rf $(VENV) demo
