# Two commands do everything on a fresh machine, set-up included: `make demo` and `make test`.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test check benchmarks extras lock lock-extras clean

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

# The heavy extras (TVM, the TFLite converter, graphs) beside everything else. Without resolving: the converter's pins
# and TVM's contradict each other on typing-extensions, whose newest release serves both.
extras: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r .ci/extras.lock

FREEZE = $(BIN)/python -m pip freeze --exclude-editable | sed -E 's/^torch==([0-9.]+).*/torch==\1/; s/^torch @ .*/torch==2.13.0/'

# Pins what the environment holds now: base dependencies and the dev extra. Not after `make extras`.
lock:
	$(FREEZE) > requirements.lock

# Pins what the environment holds besides.
lock-extras:
	$(FREEZE) | grep -vxFf requirements.lock > .ci/extras.lock

clean:
	rm -rf $(VENV) demo
