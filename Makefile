# Two commands: `make demo` and `make test`. Both make .venv first where it is not there.
PYTHON ?= python3
BIN := .venv/bin
export KERAS_BACKEND := torch

.PHONY: demo field bench test test-slow test-long torture check clean

demo: .venv/ready
	$(BIN)/bakeoff demo --out site

# Every baseline on every embedded task, three seeds each; writes docs/field.{json,md,html}.
field: .venv/ready
	$(BIN)/python benchmarks/field.py

# Beside Optuna, Ray Tune, KerasTuner and scikit-learn, on a machine that does nothing else: hours. Writes docs/benchmarks.md.
bench: .venv/ready
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	$(BIN)/python benchmarks/all.py

test: .venv/ready
	$(BIN)/pytest

# Tests that take ten seconds and more each; `make test` leaves them out.
test-slow: .venv/ready
	$(BIN)/pytest -m "slow and not long"

test-long: .venv/ready
	$(BIN)/pytest -m "long or not long"

# 200 kills each of runs at any time, of runs at named steps, of writers on SQLite and of writers on PostgreSQL: a quarter of an hour.
torture: .venv/ready
	$(BIN)/pytest -m long -s tests/evaluation/test_faults.py tests/leaderboard/store/test_writers.py

check: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	@echo "installing Bakeoff and its dependencies into .venv (a minute or two)"
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

clean:
	rm -rf .venv .bakeoff site dist
