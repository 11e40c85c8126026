# Two commands on a fresh machine with Python 3.11+ and make: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test integrations check soak bench lock clean

demo: $(VENV)/.demo
	$(BIN)/python -m examples.flights.demo

test: $(VENV)/.dev $(VENV)/.postgres check
	$(BIN)/python -m pytest -n 2 --dist loadfile

integrations: $(VENV)/.dev
	$(BIN)/python -m pytest -m integration -o addopts= --strict-markers --strict-config -ra -n 2 --dist loadfile

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

soak: $(VENV)/.dev $(VENV)/.postgres
	$(BIN)/python -m pytest -m soak -o addopts= --strict-markers -ra

bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks

lock: $(VENV)/.dev
	@{ echo "# Exact versions of everything the project installs; made by 'make lock'."; \
	   $(BIN)/python -m pip freeze --exclude-editable; } > constraints.new
	@mv constraints.new constraints.txt

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo "Installing homeostat and what the demonstration needs (about a minute) ..."
	$(PIP) --editable '.[demo]'
	@touch $@

$(VENV)/.dev: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo "Installing homeostat with its test tools (about a minute) ..."
	$(PIP) --editable '.[demo,dev]'
	@touch $@ $(VENV)/.demo

# A PostgreSQL for the tests of databases. Where it cannot be installed they are skipped, and say so.
$(VENV)/.postgres: $(VENV)/bin/python
	@if command -v initdb >/dev/null || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "Installing PostgreSQL for the tests ..."; \
	    (apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
	        apt-get install -qq -y --no-install-recommends postgresql) >/dev/null \
	    || echo "PostgreSQL could not be installed: its tests will be skipped"; \
	else echo "There is no PostgreSQL, and no right to install it: its tests will be skipped"; fi
	@touch $@

clean:
	rm -rf build $(VENV)
