# The first of these that is there and is 3.10 or newer makes the virtual environment.
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11 python3.10; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null && echo $$python && break; done)
VENV := .venv
BIN := $(VENV)/bin
NODE := tests/node
# One more than there are cores: many tests wait, for processes, deadlines and lost packets.
WORKERS ?= $(shell expr $$(getconf _NPROCESSORS_ONLN || echo 1) + 1)

.DEFAULT_GOAL := help
.PHONY: help install demo test test-all histories histories-simulated histories-dense watches ttls short-programs false-deaths
.PHONY: figures paper bench generated overload lossy soak fuzz hostile signals forks lint types structure screenshots docs dist release clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-19s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "gossipmonger needs Python 3.10 or newer"; exit 1; }
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "No venv: on Debian and Ubuntu, apt-get install python3-venv"; exit 1; }

# The package alone is all that the demo needs; what developers need holds it too.
$(VENV)/.stamp-package: setup.cfg setup.py | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/.stamp-dev: setup.cfg setup.py | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@ $(VENV)/.stamp-package

# Without npm, or without a registry, the interoperability tests skip themselves and say why.
$(NODE)/.stamp-npm: $(NODE)/package.json $(NODE)/package-lock.json
	@if command -v npm >/dev/null; then \
		(cd $(NODE) && npm ci --no-audit --no-fund) && touch $@ || echo "npm failed: no interoperability tests"; \
	else echo "no npm: no interoperability tests"; fi

install: $(VENV)/.stamp-dev ## Make .venv with the package and everything developers need

demo: $(VENV)/.stamp-package ## Five real nodes on loopback, one of them killed and restarted
	@$(BIN)/python examples/demo.py

test: install $(NODE)/.stamp-npm ## Run the tests with coverage; PYTEST_ARGS adds to the command line
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal --cov --cov-report=term-missing $(PYTEST_ARGS)

test-all: $(NODE)/.stamp-npm ## Run the tests on each of Python 3.10 to 3.13 that is there
	@found=; for version in 3.10 3.11 3.12 3.13; do \
		for python in $$(command -v python$$version) $$HOME/.pyenv/versions/$$version.*/bin/python; do \
			$$python -c 'import sys; sys.exit("%d.%d" % sys.version_info[:2] != "'$$version'")' 2>/dev/null || continue; \
			echo "== Python $$version"; \
			$$python -m venv .venv-$$version && .venv-$$version/bin/python -m pip install --quiet --editable '.[test]' && \
			.venv-$$version/bin/python -m pytest -n $(WORKERS) --dist worksteal $(PYTEST_ARGS) || exit 1; \
			found="$$found $$version"; break; \
		done; \
	done; echo "ran on:$${found:- none}"; test -n "$$found"

# These draw new seeds and print them. COUNT says how many; SEEDS="FIRST LAST" replays those that were printed.
SEARCH = $(if $(COUNT),--count $(COUNT)) $(SEEDS)

histories: install ## Search 20,000 random histories of either kind for broken promises; COUNT, SEEDS="FIRST LAST"
	@$(BIN)/python -m tests.histories simulated $(SEARCH); simulated=$$?; \
	$(BIN)/python -m tests.histories dense $(SEARCH) && exit $$simulated

histories-simulated: install ## The same for whole endpoints on the simulated network alone; a quarter of an hour on one core
	$(BIN)/python -m tests.histories simulated $(SEARCH)

histories-dense: install ## The same for bare protocols, whose messages arrive in any order; seven minutes on one core
	$(BIN)/python -m tests.histories dense $(SEARCH)

watches: install ## Search 5,000 histories for watches that tell something wrong, then real nodes for a minute; COUNT, SEEDS
	@$(BIN)/python -m tests.watches simulated $(SEARCH); simulated=$$?; \
	$(BIN)/python -m tests.watches sockets && exit $$simulated

ttls: install ## 10,000 keys with a ttl of 30 nodes, of which 25 are killed: when each key goes; a quarter of a minute
	$(BIN)/python -m tests.ttls

short-programs: install ## 1,000 programs that end within 0.3 s beside three nodes, some killed; COUNT; three minutes
	$(BIN)/python -m tests.short_programs $(COUNT)

false-deaths: install ## Search 1,000 clusters of 50 nodes for wrong verdicts; COUNT, SEEDS; an hour on one core, all are used
	$(BIN)/python -m tests.false_deaths $(SEARCH)

hostile: install ## Two nodes among 2,000 peers that are slow, idle or silent, then 100,000 invented ones; five minutes
	$(BIN)/python -m tests.hostile 2000
	$(BIN)/python -m tests.flood 100000

fuzz: install ## Say nearly right messages to a node for a minute, led by coverage; SECONDS. Needs the package atheris
	$(BIN)/python -m tests.fuzz $(or $(SECONDS),60)

signals: install ## Interrupt a busy program by 10,000 signals whose handlers write, read, close and raise; COUNT
	$(BIN)/python -m tests.signals $(COUNT)

forks: install ## Fork a busy node 1,000 times at random moments; COUNT
	$(BIN)/python -m tests.forks $(COUNT)

figures: install ## Rounds until updates and deaths are known to all, as the documentation has them; ten minutes
	$(BIN)/python -m benchmarks.figures

$(VENV)/.stamp-bench: setup.cfg setup.py | $(VENV)/.stamp-dev
	$(BIN)/python -m pip install --quiet --editable '.[bench]'
	@touch $@

paper: $(VENV)/.stamp-bench ## The paper's two experiments on this protocol; writes docs/experiments
	$(BIN)/python -m benchmarks.paper

bench: $(VENV)/.stamp-bench $(NODE)/.stamp-npm ## Side by side with what else there is; writes docs/benchmarks.md; BENCH_ARGS="[--quick] [NAME ...]"
	$(BIN)/python -m benchmarks $(BENCH_ARGS)

generated: install ## One real node among up to 9,998 that are played; six minutes. GENERATED_ARGS="--peers 100 --updates 0.1"
	$(BIN)/python -m benchmarks.generated $(GENERATED_ARGS)

soak: install ## Twenty nodes that write, change keys, are killed and come back, for half an hour; MINUTES. None may grow
	$(BIN)/python -m tests.soak $(MINUTES)

overload: install ## Whether an overload feeds itself: twelve nodes beside eight busy loops; three minutes
	$(BIN)/python -m benchmarks.overload

lossy: install ## A hundred nodes on a network with 5 % loss and 100 ms of latency; a quarter of an hour, needs root
	$(BIN)/python -m benchmarks.lossy

lint: install ## Check style, and that rooms import only what they may
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache

# pyright looks for the package and for pyee where PYTHONPATH says: of an editable install it knows nothing.
types: install ## Check types, and that every public name has one
	$(BIN)/mypy
	PYTHONPATH=.:$$($(BIN)/python -c 'import pathlib, pyee; print(pathlib.Path(pyee.__file__).parent.parent)') \
		$(BIN)/pyright --pythonpath $(BIN)/python --verifytypes gossipmonger --ignoreexternal

structure: install ## Write the tree and the arrows of the code into docs/architecture.md
	$(BIN)/python docs/structure.py --write

screenshots: install ## Make the screenshots of the page in docs/web; needs chromium and chromedriver, a minute
	$(BIN)/python -m tests.web.screenshots docs/web

docs: install ## Build the documentation and run its examples; fails if `make structure` would change a page
	$(BIN)/python docs/structure.py
	$(BIN)/sphinx-build -q -W -b doctest docs docs/_build/doctest
	$(BIN)/sphinx-build -q -W -b html docs docs/_build/html

dist: install ## Build sdist and wheel
	rm -rf dist build
	$(BIN)/python -m build --quiet

release: ## Check, test, build and tag the version that the package names; says how to upload it
	.ci/release

clean: ## Remove all that is made
	rm -rf .venv .venv-* build dist docs/_build benchmarks/build $(NODE)/node_modules $(NODE)/.stamp-npm .coverage *.egg-info
	rm -rf crash-* slow-unit-* .hypothesis .mypy_cache .pytest_cache .ruff_cache
