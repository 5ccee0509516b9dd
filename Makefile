# make train       trains; make train ARGS="--algo=qmix --env=two_step" trains what you name
# make test        the tests but for those marked slow, with a compiler that is quick
# make test-fast   those of parts that compile little, in a minute
# make test-all    everything, compiled as for users
# make check       formatter, linter, type checker and make test
# make format      formats the code and fixes what the linter can fix
# make docs        builds the site into site/; make docs-serve serves it
# make gpu         adds the CUDA libraries for an NVIDIA GPU
# make clean       removes the virtual environments and the site
PYTHON ?= python3
VENV ?= .venv
DOCS_VENV ?= .venv-docs
ARGS ?= --algo=qtran_alt
BIN := $(VENV)/bin

# pip resolves on Python 3.10 and 3.11; on 3.12 and 3.13 uv does, with the
# overrides of pyproject.toml.
INSTALL = if $(BIN)/python -c 'import sys; sys.exit(sys.version_info >= (3, 12))'; \
	then $(BIN)/pip install --quiet --disable-pip-version-check -r $(1); \
	else $(BIN)/pip install --quiet --disable-pip-version-check uv && \
	$(BIN)/uv pip install --quiet --python $(BIN)/python -r $(1); fi

# Files of tests that take seconds.
FAST = utils/test_text utils/test_files utils/test_signals test_structure config/test_config test_readme test_ops test_properties training/test_replay envs/test_matrix_games utils/test_quiet

.PHONY: help train test test-fast test-all check format docs docs-serve gpu clean

help:
	@sed -n 's/^# make/make/p' $(firstword $(MAKEFILE_LIST))

train: $(VENV)/.run
	$(BIN)/python main.py $(ARGS)

# In three parts, which saves memory: what XLA compiles stays until a process ends.
PYTEST = $(BIN)/python -m pytest
PARTS = code=0; for part in 1/3 2/3 3/3; do $(PYTEST) --part=$$part $(1) || code=1; done; exit $$code

test: $(VENV)/.dev
	@$(call PARTS,-m "not slow")

test-fast: $(VENV)/.dev
	$(PYTEST) -m "not slow" $(FAST:%=tests/%.py)

test-all: $(VENV)/.dev
	@export XLA_FLAGS=; $(call PARTS)

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	@$(call PARTS,-m "not slow")

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(VENV)/.run $(DOCS_VENV)/.docs
	$(BIN)/python docs/make_settings.py
	$(BIN)/python benchmarks/book.py
	NO_MKDOCS_2_WARNING=1 $(DOCS_VENV)/bin/mkdocs build --strict

docs-serve: $(DOCS_VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(DOCS_VENV)/bin/mkdocs serve

$(BIN)/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 10) <= v <= (3, 13) \
		else "tfmix runs on Python 3.10 to 3.13 and $(PYTHON) is %d.%d: name another one, such as make train PYTHON=python3.11" % v)'
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/.run: $(BIN)/python requirements.txt
	@echo "installing requirements.txt into $(VENV), about 2 GB"
	@$(call INSTALL,requirements.txt)
	@touch $@

$(VENV)/.dev: $(BIN)/python requirements.txt requirements-dev.txt requirements-serve.txt requirements-export.txt
	@echo "installing requirements-dev.txt into $(VENV), about 2 GB"
	@$(call INSTALL,requirements-dev.txt)
	@touch $@ $(VENV)/.run

# The site's tools do not agree with TF-Agents' pins, so they have their own environment.
$(DOCS_VENV)/.docs: requirements-docs.txt
	@$(PYTHON) -m venv $(DOCS_VENV) || { rm -rf $(DOCS_VENV); exit 1; }
	@$(DOCS_VENV)/bin/pip install --quiet --disable-pip-version-check -r requirements-docs.txt
	@touch $@

gpu: $(VENV)/.run
	@$(call INSTALL,requirements-gpu.txt)

clean:
	rm -rf $(VENV) $(DOCS_VENV) site .pytest_cache .mypy_cache .ruff_cache
