# Every verb works on a fresh machine with Python 3.11 and make; the first one that needs it creates .venv.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# Tools that audit and describe the environment stay out of it, and are installed by the verbs that need them.
TOOLS := build/release-tools

.DEFAULT_GOAL := help
.PHONY: help install demo test check format bench docs audit release

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# What the verbs that describe every package need, beside what the tests need.
EVERYTHING := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[all]"

install: $(INSTALLED)  ## create .venv with the package and everything the verbs below need

$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check "pip>=25.1"
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[train,plots,hdf5,parquet,onnx,openvino,search,web,explain,segment,cluster,cloud,tables]" --group dev --group docs
	touch $@

demo: install  ## from generated videos to a working classifier, offline
	$(BIN)/c3dvideo demo --out demo

test: install  ## run the whole test suite
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

check: install  ## style, types and import direction
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install  ## rewrite the code in the project style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: install  ## measure this machine: ours against every peer that installs here
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --requirement benchmarks/requirements.txt
	$(BIN)/python -m benchmarks

docs: install  ## regenerate the pages that come from the code, and build the site in build/site, offline
	$(BIN)/python docs/generate.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

$(TOOLS)/.installed: pyproject.toml constraints.txt
	test -x $(TOOLS)/bin/python || $(PYTHON) -m venv $(TOOLS)
	$(TOOLS)/bin/pip install --quiet --disable-pip-version-check "pip>=25.1"
	$(TOOLS)/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt --group release
	touch $@

audit: install $(TOOLS)/.installed  ## look up known vulnerabilities of all dependencies; needs a network
	$(EVERYTHING)
	$(BIN)/python release/audit.py $(TOOLS)/bin/pip-audit

release: install $(TOOLS)/.installed  ## build sdist, wheel, bill of materials (SBOM) and list of licences into dist
	$(EVERYTHING)
	rm -rf dist
	$(TOOLS)/bin/python -m build --outdir dist
	$(BIN)/python release/sbom.py $(TOOLS)/bin/cyclonedx-py dist
	$(BIN)/python release/dependencies.py
