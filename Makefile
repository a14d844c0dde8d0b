# make demo: from a fresh clone to recommendations that learn, in one command. `make help` lists the rest.

# The newest Python in range, unless PYTHON names one. A command that is there may still not run (a shim of pyenv).
IN_RANGE := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))
PYTHON ?= $(shell for one in python3.14 python3.13 python3.12 python3.11 python3; do \
  if $$one -c '$(IN_RANGE)' 2>/dev/null; then echo $$one; break; fi; done)
VENV ?= .venv
BIN := $(VENV)/bin
TORCH := torch==2.13.0
# On Linux plain torch brings CUDA (3 GB). TORCH_INDEX=URL names a package index that has the CPU wheel.
TORCH_FROM := $(if $(TORCH_INDEX),PIP_INDEX_URL='$(TORCH_INDEX)')
EVENTS ?=
DEMO ?=
BENCH ?=
JOBS ?= 4

SUPPLY := build/supply
LOCK := deploy/requirements.lock

.PHONY: help demo test lint types bench contract wheels lock sbom audit fuzz clean

help:
	@echo "make demo      install into $(VENV), then run the main job on MovieLens-100K (DEMO='--json' passes options)"
	@echo "make test      install what tests need too, then run them, JOBS=4 at a time"
	@echo "make lint      ruff: style and format"
	@echo "make types     mypy --strict on our packages, for the oldest Python that each supports"
	@echo "make bench     every bench of headwater bench, and docs/performance.md made of them (BENCH='score learn' names some)"
	@echo "make contract  write docs/contract and docs/settings.md from the models"
	@echo "make wheels    build both distributions, headwater (the SDK) and headwater-engine, into dist/"
	@echo "make lock      $(LOCK): every package of a production install, pinned as in $(VENV), with the hashes of its files"
	@echo "make sbom      build/sbom.cdx.json: what the lock file names, as CycloneDX"
	@echo "make audit     known vulnerabilities of what the lock file names (asks pypi.org; SOURCE=osv asks osv.dev)"
	@echo "make fuzz      INPUTS=1000000 changed inputs for every decoder"
	@echo "make clean     remove $(VENV) and caches"
	@echo "The newest Python of 3.11 to 3.14 on the PATH is used; PYTHON=/path/to/python names another"
	@echo "TORCH_INDEX=URL make demo takes torch from that index: name one with CPU wheels for a smaller install"

demo: $(VENV)/.installed
	$(BIN)/headwater demo $(if $(EVENTS),--events "$(EVENTS)") $(DEMO)

# Some machines forbid Python to keep what it has compiled: each job, and each process that tests start, would compile anew.
test: $(VENV)/.installed-dev
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check --no-cache .
	$(BIN)/ruff format --no-cache --check .

types: $(VENV)/.installed-dev
	$(BIN)/mypy
	$(BIN)/mypy --python-version 3.10 -p headwater

bench: $(VENV)/.installed-dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[bench]'
	code=0; $(BIN)/headwater bench $(BENCH) || code=1; \
	if [ -x ../shared/kafka/kafka ] && command -v java >/dev/null; then \
	  $(BIN)/headwater bench $(BENCH) --kafka apache || code=1; fi; \
	$(BIN)/headwater bench page && exit $$code

contract: $(VENV)/.installed
	$(BIN)/headwater contract

wheels: $(VENV)/.installed-dev
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation -w dist ./headwater .

# From the registry that everybody has: this machine's own indexes and wheels are left out.
lock: $(VENV)/.installed-dev $(SUPPLY)/.installed
	$(BIN)/python deploy/supply.py wanted > $(SUPPLY)/wanted.in
	$(BIN)/python deploy/supply.py installed > $(SUPPLY)/installed.txt
	env -u UV_INDEX -u UV_DEFAULT_INDEX -u UV_INDEX_URL -u UV_EXTRA_INDEX_URL -u UV_FIND_LINKS UV_NO_CONFIG=1 \
	  UV_SYSTEM_CERTS=1 $(SUPPLY)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	  --no-annotate --no-header --no-emit-index-url -c $(SUPPLY)/installed.txt -o $(LOCK) $(SUPPLY)/wanted.in

sbom: $(SUPPLY)/.installed
	$(SUPPLY)/bin/cyclonedx-py requirements --pyproject pyproject.toml --of JSON --output-reproducible \
	  -o build/sbom.cdx.json $(LOCK)

# --strict: what could not be looked up is a failure, and no clean bill.
audit: $(SUPPLY)/.installed
	$(SUPPLY)/bin/pip-audit --strict --disable-pip --require-hashes --progress-spinner off -s $(or $(SOURCE),pypi) -r $(LOCK)

fuzz: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.security.fuzzing --inputs $(or $(INPUTS),1000000)

$(SUPPLY)/.installed:
	@$(PYTHON) -m venv $(SUPPLY)
	$(SUPPLY)/bin/python -m pip install --quiet --disable-pip-version-check 'uv>=0.9,<1' 'pip-audit>=2.9,<3' 'cyclonedx-bom>=7,<8'
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache

$(VENV)/bin/python:
	@test -n '$(PYTHON)' || { \
	  echo "Headwater needs Python 3.11, 3.12, 3.13 or 3.14 and finds none on the PATH." >&2; \
	  echo "Get one: apt-get install python3 python3-venv | brew install python@3.13 | pyenv install 3.13 | uv python install 3.13" >&2; \
	  echo "or name one: make demo PYTHON=/path/to/python3.13" >&2; exit 1; }
	@$(PYTHON) -c '$(IN_RANGE)' 2>/dev/null || { \
	  echo "Headwater needs Python 3.11 to 3.14; '$(PYTHON)' is $$($(PYTHON) --version 2>&1). Name another: make demo PYTHON=/path/to/python3.13" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "'$(PYTHON) -m venv' failed. On Debian and Ubuntu: apt-get install $(notdir $(PYTHON))-venv" >&2; exit 1; }

# Editable, so that a changed source needs no second install; only a changed pyproject.toml does.
$(VENV)/.installed: pyproject.toml headwater/pyproject.toml | $(VENV)/bin/python
	@echo "Installing into $(VENV): the first time this takes a few minutes."
	$(TORCH_FROM) $(BIN)/python -m pip install --quiet --disable-pip-version-check '$(TORCH)'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ./headwater -e '.[embedded]'
	@touch $@

$(VENV)/.installed-dev: pyproject.toml headwater/pyproject.toml | $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ./headwater -e '.[embedded,dev]'
	@touch $@ $(VENV)/.installed
