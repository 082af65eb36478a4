# The two commands are `make run` and `make test`; the README tells what one sees.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

# LIGHT=1 leaves out what only the embeddings need, which is gigabytes; everything else works without it.
ifeq ($(filter-out 0,$(LIGHT)),)
INSTALLED := $(VENV)/.installed-embeddings
else
INSTALLED := $(VENV)/.installed
TESTS     := -m "not embeddings"
endif
ALONE := tests/actors tests/analytics tests/feeds tests/storage   # no daemon: two of these may run at once

.PHONY: soak run test install check bench lock clean install-systemd
run: install
	@$(BIN)/marketd demo

install: $(INSTALLED)
	@test -e $(VENV)/.installed-embeddings || echo "LIGHT=1: without embeddings; LanceDB and marketd similar are off until make install"

test: $(VENV)/.installed-dev $(INSTALLED)
	$(BIN)/pytest $(TESTS) -n 2 $(ALONE)
	$(BIN)/pytest $(TESTS) $(addprefix --ignore=,$(ALONE))

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

# As many random faults as told, each life from a seed of its own; a failure names the seed.
FAULTS ?= 2000
SEED   ?= 1
soak: $(VENV)/.installed-dev $(INSTALLED)
	$(BIN)/python -m tests.soak $(FAULTS) $(SEED)

bench: $(INSTALLED)
	$(BIN)/python -m benchmarks

$(BIN)/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "marketd needs Python 3.11 or newer (PYTHON=/path/to/python3 make ...)"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "marketd needs Python's venv module: sudo apt-get install python3-venv"; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.boot.lock

$(VENV)/.installed: requirements.lock pyproject.toml | $(BIN)/uv
	@echo "installing, a minute or two"
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes --compile-bytecode -r requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-build-isolation --no-deps --editable .
	@touch $@

$(VENV)/.installed-embeddings: requirements-embeddings.lock $(VENV)/.installed
	@echo "installing with embeddings: 7 GB once, most of it torch; LIGHT=1 does without"
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes --compile-bytecode -r requirements-embeddings.lock
	@touch $@

$(VENV)/.installed-dev: requirements-dev.lock $(VENV)/.installed
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes --compile-bytecode -r requirements-dev.lock
	@touch $@

# Pins every dependency anew, with hashes and without addresses.
lock: $(BIN)/uv
	$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header $(UPGRADE) pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header --extra embeddings -c requirements.lock $(UPGRADE) pyproject.toml -o requirements-embeddings.lock
	$(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header --extra dev -c requirements-embeddings.lock $(UPGRADE) pyproject.toml -o requirements-dev.lock
	echo uv | $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header $(UPGRADE) - -o requirements.boot.lock

# As root. DESTDIR= puts everything beneath a folder and starts nothing; PREFIX= says where marketd will be.
install-systemd:
	@PREFIX="$(PREFIX)" DESTDIR="$(DESTDIR)" systemd/install.sh

clean:
	rm -rf $(VENV) build *.egg-info
