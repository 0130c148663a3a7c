# Every target installs what it needs: a machine with Python >= 3.11, pip and make is enough.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
EXTRAS := dev
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help install study smoke test check format bench chaos clean

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

# The environment is as old as the files that describe it; pip is asked again only when they change.
$(VENV)/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python >= 3.11 is needed; got " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[$(EXTRAS)]'
	@touch $@

install: $(VENV)/installed  ## create .venv and install the project, pinned by constraints.txt

study: install  ## run the full study on the embedded digits (make study ARGS="--dataset fashion-mnist")
	$(BIN)/python -m study.launch --space full $(ARGS)

smoke: install  ## the whole path in half a minute
	$(BIN)/python -m study.launch --space smoke $(ARGS)

# Two at once, a file in one process: its tests share what they set up.
test: install  ## all tests (make test ARGS="tests/study -k search")
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

check: install  ## ruff, mypy, import-linter
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install  ## rewrite the files in the project's format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: install  ## measure speed and memory against plain PyTorch, as ratios
	$(BIN)/python -m bench.run $(ARGS)

chaos: install  ## kill thirty times, resume, and compare the record with an undisturbed one (about a quarter of an hour)
	CHAOS_KILLS=30 $(BIN)/python -m pytest -s --timeout 7200 tests/end_to_end/test_chaos.py $(ARGS)

clean:  ## remove the environment and caches; studies and records stay
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build *.egg-info
