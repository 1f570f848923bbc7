# Needs python3.11 or later and make. Everything is installed into .venv; no GPU is needed.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
TYPED := build/types
PYTEST_ARGS ?= -n 2

.DEFAULT_GOAL := help
.PHONY: help install demo test lint types format tables std pictures bench plot clean

help: ## show the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile | expand -t 10

install: $(VENV)/installed ## make .venv with patternc and its tools

$(VENV)/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("patternc needs Python 3.11 or later; this is " + sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@$(BIN)/python -m compileall -q patternc grammar backends  # an editable install is not compiled by pip
	@touch $@

demo: install ## check, draw, explain, verify and compile an example
	@mkdir -p build
	$(BIN)/patternc check examples/longformer.spat
	$(BIN)/patternc show examples/longformer.spat --heads 8 --set w=16 -n 128
	$(BIN)/patternc explain examples/strided.spat --heads 8 -n 4096
	$(BIN)/patternc verify examples/longformer.spat --heads 8 --set w=16 -n 200
	$(BIN)/patternc show examples/longformer.spat --heads 8 --set w=16 -n 256 -o build/longformer.png
	$(BIN)/patternc compile examples/longformer.spat --heads 8 -o build/longformer_attention.py
	@echo 'build/ has the picture and the compiled module.'

test: install ## run the tests
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: install ## ruff: rules and layout of the Python files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# In the tree grammar/ and backends/ stand beside patternc/; installed, they are inside. mypy sees the latter form.
types: install ## mypy
	rm -rf $(TYPED)
	mkdir -p $(TYPED)
	cp -r patternc $(TYPED)/patternc
	cp -r grammar $(TYPED)/patternc/grammar
	cp -r backends $(TYPED)/patternc/backends
	cd $(TYPED) && $(abspath $(BIN))/mypy --config-file $(CURDIR)/pyproject.toml --cache-dir $(CURDIR)/.mypy_cache --package patternc

format: install ## lay out the Python files
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

tables: install ## write grammar/tables.py from grammar/spat.lark
	$(BIN)/python -m patternc.grammar

std: ## copy the examples of general use into the library
	for file in patternc/std/*.spat; do cp examples/$$(basename $$file) $$file; done

pictures: install ## draw the pictures of docs/ anew
	grep -ho '^patternc show.*' docs/gallery.md docs/layouts.md | PATH="$(abspath $(BIN)):$$PATH" sh -e

bench: install ## measure padding, planning and attention on the CPU; writes benchmarks/results
	$(BIN)/python -m benchmarks.padding
	$(BIN)/python -m benchmarks.plans
	$(BIN)/python -m benchmarks.cpu

plot: install ## tables and picture of what was measured on a GPU; writes docs/attention-gpu.svg
	$(BIN)/python -m benchmarks.report

clean: ## remove what the other targets made
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
