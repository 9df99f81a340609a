# Two commands: `make demo` and `make test`. Both make .venv first where it is not there.
PYTHON ?= python3
BIN := .venv/bin
export KERAS_BACKEND := torch

.PHONY: demo test test-long check clean

demo: .venv/ready
	$(BIN)/bakeoff demo --out leaderboard.html

test: .venv/ready
	$(BIN)/pytest

test-long: .venv/ready
	$(BIN)/pytest -m "long or not long"

check: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/mypy

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	@echo "installing Bakeoff and what it needs into .venv (a minute or two)"
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

clean:
	rm -rf .venv .bakeoff leaderboard.html dist
