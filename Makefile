# `make demo` and `make test` do all their own set-up in a fresh clone: a .venv, then install.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test coverage lint docs format clean

demo: .venv/installed
	$(BIN)/foveal demo

test: .venv/installed
	$(BIN)/pytest --numprocesses auto --maxprocesses 4 --dist loadfile --durations=15 $(TRACED)

# Tracing every line nearly doubles the time of exports.
coverage: TRACED := --cov --cov-report=term-missing:skip-covered --cov-fail-under=90
coverage: test

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@! git grep -nE '\b(breakpoint\(\)|pdb\.set_trace)' -- '*.py' || (echo 'a debugger call is left'; exit 1)
	@git ls-files -z | xargs -0 -r du -k -- | awk '$$1 > 500 && $$2 !~ /\.safetensors$$/ { print $$2 " is over 500 kB"; found = 1 } END { exit found }'

docs: .venv/installed
	$(BIN)/mkdocs build --strict --quiet
	@echo 'The documentation is in site/index.html'

format: .venv/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# PyTorch first and alone, at the pinned version, so that nothing else can draw in another build.
.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv site .pytest_cache .mypy_cache .ruff_cache .coverage
