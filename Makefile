# Every target installs what it needs: a machine with Python >= 3.11, pip and make is enough.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
EXTRAS := dev
ARGS ?=
CLUSTER ?= cluster.yaml

.DEFAULT_GOAL := help
.PHONY: help install study smoke test test-studies test-nodes test-cluster check format bench chaos cluster-ui clean

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

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
TWO_AT_ONCE := $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test: install  ## all tests but those of the next three (make test ARGS="tests/study -k search")
	$(TWO_AT_ONCE) -m "not studies and not machines and not raylets" $(ARGS)

test-studies: install  ## whole studies of every kind, also killed, cut off or out of room
	$(TWO_AT_ONCE) -m studies $(ARGS)

# A file a process: one that has left a Ray cluster may wait for good when it joins another.
test-nodes: install  ## on clusters of several raylets on this computer
	set -e; for file in $$(grep -rl --include='test_*.py' '^pytestmark = pytest.mark.raylets' tests); do \
		$(BIN)/python -m pytest $$file $(ARGS); done

test-cluster: install  ## ray up to ray down on machines made of namespaces (root; openssh-server, rsync, iproute2)
	$(BIN)/python -m pytest -n 2 --dist loadfile -rP -m machines tests/cluster $(ARGS)

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

# Through ssh: on the head both listen on the loopback interface alone.
cluster-ui: install  ## MLflow on port 5000, Ray's dashboard and jobs on 8265, until Ctrl-C (CLUSTER=cluster.yaml)
	@echo 'MLflow: http://127.0.0.1:5000   Ray: http://127.0.0.1:8265   Ctrl-C ends it'
	$(BIN)/ray exec $(CLUSTER) --port-forward 5000 --port-forward 8265 'sleep infinity'

clean:  ## remove the environment and caches; studies and records stay
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build *.egg-info
