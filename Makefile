# One door for everybody: `make` shows what there is. Needs Python 3.11 or newer with pip and venv; nothing else.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help run test check format faults fuzz conformance bench lock clean

# The fastest build of the first Python that is new enough; looked for once, and only where .venv has to be made.
new-enough = $(shell for p in python3 python3.11 python3.12 python3.13 python3.14; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
ifndef PYTHON
PYTHON = $(eval PYTHON := $(shell $(or $(new-enough),false) bench/interpreter.py))$(PYTHON)
endif

# What is installed is known by the sum of what asks for it, so a second `make` has nothing to do.
sum = $(shell cat $(1) | cksum | cut -d ' ' -f 1)
RUN := .venv/.run-$(call sum,pyproject.toml requirements/run.txt)
DEV := .venv/.dev-$(call sum,pyproject.toml requirements/run.txt requirements/dev.txt)

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet --no-input
# Byte code is kept, whatever the shell says: without it every start compiles all libraries again.
KEEP := env -u PYTHONDONTWRITEBYTECODE
CODE := broker listeners transforms dispatch config console

help: ## Show this
	@echo 'make run     install what is missing and start the engine (ARGS="…" is passed on to `handoff run`)'
	@echo 'make test    run the whole suite; what was skipped and why comes last (ARGS="-k …" narrows it)'
	@echo 'make check   formatting, lint, types, layout: what must hold before a commit'
	@echo 'make format  put formatting and imports in order'
	@echo 'make faults  the long form of the crash tests: 300 kills, every crash point five times, 5,000 messages of which a fifth is answered ambiguously (an hour)'
	@echo 'make fuzz    the long form of the fuzz tests: ten million mutated HL7 messages (FUZZ_INPUTS=…); make test tries 200,000'
	@echo 'make conformance  read other people'"'"'s messages (../shared/data) and compare with what peers made of them'
	@echo 'make bench   measure what the README promises, and print it as JSON'
	@echo 'make lock    work out requirements/*.txt again from pyproject.toml (needs uv; ARGS=--upgrade for newer versions)'
	@echo 'make clean   remove everything that can be made again; var/ with its data stays'

run: $(RUN)
	@mkdir -p -m 700 var # it holds the key
	@mkdir -p .handoff && $(BIN)/handoff schema > .handoff/channel.schema.json # for editors: channel files name it
	@exec $(KEEP) $(BIN)/handoff run $(ARGS)

test: $(DEV)
	$(KEEP) $(BIN)/python -m pytest -n 2 --dist worksteal -ra $(ARGS)

check: $(DEV)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(KEEP) $(BIN)/mypy
	$(KEEP) $(BIN)/python -m pytest -q tests/unit/test_layout.py

format: $(DEV)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

faults: $(DEV)
	$(KEEP) FAULT_KILLS=300 FAULT_HITS=1,2,3,7,20 FAULT_CUTS=300 FAULT_AMBIGUOUS=5000 FAULT_OUTAGE=2000 $(BIN)/python -m pytest -n 2 --dist worksteal -ra tests/faults $(ARGS)

fuzz: $(DEV)
	$(KEEP) FUZZ_INPUTS=$${FUZZ_INPUTS:-10000000} $(BIN)/python -m pytest -n 2 -ra tests/fuzz $(ARGS)

conformance: $(DEV)
	@$(KEEP) $(BIN)/python -m tests.conformance.peers

bench: $(DEV)
	@$(KEEP) $(BIN)/python bench/run.py $(ARGS)

LOCK = uv pip compile pyproject.toml --quiet --group build --generate-hashes --universal --python-version 3.11 --no-strip-extras \
	--no-header --no-emit-index-url --no-emit-find-links $(ARGS)
lock:
	$(LOCK) --output-file requirements/run.txt
	$(LOCK) --group dev --constraint requirements/run.txt --output-file requirements/dev.txt

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage* build *.egg-info
	find $(CODE) tests bench -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo 'Handoff needs Python 3.11 or newer; none was found. Set PYTHON=/path/to/python3.' >&2; exit 1; }
	@$(PYTHON) -m venv .venv

$(RUN): | $(BIN)/python
	@echo 'Installing what the engine needs (once; a minute or two) …' >&2
	@$(PIP) install --compile --require-hashes -r requirements/run.txt
	@$(install-ourselves)

$(DEV): | $(BIN)/python
	@echo 'Installing what the engine, its tests and its checks need (once; a minute or two) …' >&2
	@$(PIP) install --compile --require-hashes -r requirements/dev.txt
	@$(install-ourselves)
	@touch $(RUN)

define install-ourselves
$(PIP) install --no-deps --no-build-isolation --editable . && \
	$(KEEP) $(BIN)/python -m compileall -q $(CODE) && rm -f .venv/.run-* .venv/.dev-* && touch $@
endef
