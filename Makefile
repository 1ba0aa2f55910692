# Two commands matter to a newcomer: `make picture` and `make test`.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
HOME_  := $(CURDIR)/.fluxctx-home
PIP    := $(BIN)/python -m pip --disable-pip-version-check install --quiet --no-compile --constraint constraints.txt

.PHONY: picture test setup setup-dev check docs

picture: setup            ## a real picture from the embedded model, then the vault's list
	@mkdir -p -m 700 $(HOME_)
	@test -s $(HOME_)/passphrase || (umask 077 && $(BIN)/python -c "import secrets; print(secrets.token_urlsafe(24))" > $(HOME_)/passphrase)
	FLUXCTX_HOME=$(HOME_) FLUXCTX_PASSPHRASE_FILE=$(HOME_)/passphrase FLUXCTX_ACCEPT_TERMS=1 \
	  $(BIN)/fluxctx generate "a red apple" --output apple.png --force
	FLUXCTX_HOME=$(HOME_) FLUXCTX_PASSPHRASE_FILE=$(HOME_)/passphrase $(BIN)/fluxctx list
	@$(MAKE) --no-print-directory $(VENV)/.compiled

test: setup-dev $(VENV)/.compiled  ## every test, in parallel, without network
	$(BIN)/python -m pytest -n 2 --dist worksteal $(PYTEST_ARGS)

setup: $(VENV)/.runtime
setup-dev: $(VENV)/.dev

$(VENV)/bin/python:
	@$(PYTHON) -c "import sys; sys.exit('fluxctx needs Python 3.11 or newer: make PYTHON=python3.12 ...' if sys.version_info < (3, 11) else 0)"
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) torch
	$(PIP) --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime
	$(PIP) --editable ".[dev]"
	@touch $@

# Bytecode comes after the first picture: the workers can write no file and would compile anew each time.
$(VENV)/.compiled: $(VENV)/.runtime
	@$(BIN)/python -m compileall -qq -j 0 $(VENV)/lib || true
	@touch $@

check: setup-dev          ## what CI checks besides the tests
	$(BIN)/ruff check fluxctx tests benchmarks tools
	$(BIN)/ruff format --check fluxctx tests benchmarks tools
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/docs.py --check

docs: setup-dev           ## write docs/reference from the code
	$(BIN)/python tools/docs.py
