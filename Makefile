# Every target sets up what it needs on a machine with Python 3.11 to 3.13.
# Run `make` or `make help` for the list.

SHELL := bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# The first supported interpreter; name another with `make ... PYTHON=python3.12`.
SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c '$(SUPPORTED)' >/dev/null 2>&1 && { echo $$p; break; }; done)
VENV ?= .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.ready
JOBS ?= $(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
INDEX := _build/html/index.html
BENCH := _build/bench
PACKAGES := 'import sysconfig; print(sysconfig.get_path("purelib"))'

# Of test-versions: lowest, newest, or both.
ENDS ?=

# A setting that nothing could be made of is refused before anything starts.
ifeq ($(shell [[ '$(JOBS)' =~ ^[1-9][0-9]*$$ ]] && echo right),)
$(error JOBS=$(JOBS): accepted is a number from 1)
endif
ifneq ($(TRICKS_PROFILE),$(filter mini full,$(TRICKS_PROFILE)))
$(error TRICKS_PROFILE=$(TRICKS_PROFILE): accepted is mini or full)
endif
ifneq ($(ENDS),$(filter lowest newest,$(ENDS)))
$(error ENDS=$(ENDS): accepted is lowest or newest; both without it)
endif

# What the stored outputs are made with (conftest.py sets the same): embedded assets, CPU, one thread, no network.
MINI := TRICKS_PROFILE=mini OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false \
	HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1 PYTHONHASHSEED=0 PYDEVD_DISABLE_FILE_VALIDATION=1
# Strict: a warning fails the build. Jupyter Book's closing banner goes; warnings are on stderr.
BUILD := $(VENV)/bin/jupyter-book build -W -n --keep-going --quiet

.PHONY: help book test test-slow site pdf sphinx notebooks bench status coverage test-site test-full links test-versions \
	repository version lock clean

help:
	@echo 'make book            run the chapters and build the site from what they print (_build/html)'
	@echo 'make test            unit tests, every notebook cell compared, strict site build, checks'
	@echo 'make test-slow       the slow tests that make test leaves out'
	@echo 'make site            build the site from the stored outputs (_build/html)'
	@echo 'make pdf             the book as _build/book.pdf, printed by Chromium (after make site, test or book)'
	@echo 'make sphinx          the same site by plain Sphinx and MyST-NB, without Jupyter Book (_build/sphinx)'
	@echo 'make notebooks       re-run the chapters that changed and store their outputs'
	@echo 'make bench           time the tricks against their peers'
	@echo 'make test-site       the site in headless Chromium (after make site, test or book)'
	@echo 'make test-full       the chapters in profile full, against a stand-in hub on this machine'
	@echo 'make links           try the links that leave the site (after make site, test or book)'
	@echo 'make status          the page "Status": every notebook under nbval, one after another'
	@echo 'make coverage        how much of the package the unit tests run, for the page "Status"'
	@echo 'make test-versions   the package at both ends of its version ranges (large downloads)'
	@echo 'make repository URL=https://github.com/OWNER/NAME    write the address wherever it stands'
	@echo 'make version VERSION=X.Y.Z    write the version wherever it stands, also what the notebooks install'
	@echo 'make lock            renew requirements.txt from pyproject.toml (needs uv)'
	@echo 'make clean           remove what the other targets built'
	@echo 'Settings: PYTHON=python3.12  VENV=.venv  JOBS=2  TRICKS_PROFILE=mini|full (make book)  ENDS=lowest|newest (make test-versions)'

# One line for whoever has no Python that serves.
define CHECK_PYTHON
@test -n '$(PYTHON)' || { echo 'error: needs Python 3.11, 3.12 or 3.13 and found none; name one with PYTHON=/path/to/python' >&2; exit 2; }
@$(PYTHON) -c '$(SUPPORTED)' 2>/dev/null || { echo 'error: $(PYTHON) is not Python 3.11, 3.12 or 3.13; name one with PYTHON=/path/to/python' >&2; exit 2; }
endef

# The environment. Renewed in place when the lock changes; made anew when its interpreter is
# gone or is not the PYTHON that was asked for.
$(STAMP): requirements.txt pyproject.toml setup.py
	$(CHECK_PYTHON)
	@echo 'Setting up $(VENV) from requirements.txt (once; some minutes) ...'
	@$(PY) -c '' 2>/dev/null || $(PYTHON) -m venv --clear $(VENV) || \
		{ echo 'error: $(PYTHON) cannot make a virtual environment; on Debian or Ubuntu: apt-get install python3-venv' >&2; exit 2; }
	@$(PY) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

ifneq ($(filter command environment,$(firstword $(origin PYTHON))),)
# PYTHON was named: an environment made by another version does not serve.
PYTHON_OF = $(shell { '$(1)' -c 'import sys; print(sys.version_info[:2])'; } 2>/dev/null)
ifneq ($(call PYTHON_OF,$(PYTHON)),$(call PYTHON_OF,$(PY)))
.PHONY: other-python
other-python:
	$(CHECK_PYTHON)
	@rm -rf $(VENV)
$(STAMP): other-python
endif
endif

site: $(STAMP)
	@$(BUILD) . >/dev/null
	@echo 'The site is in $(INDEX)'

book: $(STAMP)
	@rm -rf _build/html _build/.doctrees
	@$(PY) scripts/notebooks.py run --into _build/book --jobs $(JOBS)
	@$(BUILD) _build/book --path-output . >/dev/null
	@echo 'The site is in $(INDEX)'

# A clean build (an incremental one repeats no warnings of pages it does not touch), then everything
# pytest can check in one run: conftest.py sets what `pytest --nbval` needs.
test: $(STAMP)
	@rm -rf _build/html _build/.doctrees
	@$(MINI) $(BUILD) . >/dev/null
	@SITE_MUST_EXIST=1 $(PY) -m pytest --nbval -n $(JOBS)

test-slow: $(STAMP)
	@$(PY) -m pytest tests -m slow -n $(JOBS)

notebooks: $(STAMP)
	@$(MINI) $(PY) scripts/notebooks.py store --jobs $(JOBS)

# The browser's driver comes with the tests of the site; Chromium itself is Debian's.
pdf: $(STAMP)
	@$(PY) -m pip install --quiet --disable-pip-version-check -r tests/site/requirements.txt
	@test -f $(INDEX) || $(BUILD) . >/dev/null
	@$(PY) scripts/pdf.py

# The way out of Jupyter Book 1: the same sources and settings, without it.
sphinx: $(STAMP)
	@$(VENV)/bin/sphinx-build -W -n --keep-going -q -c _sphinx . _build/sphinx
	@echo 'The site is in _build/sphinx/index.html'

# The book's environment and, on top of it, the peers at their pinned versions: 110 MB more.
$(BENCH)/.ready: $(STAMP) tests/benchmarks/requirements.txt
	@echo 'Setting up $(BENCH) from tests/benchmarks/requirements.txt ...'
	@$(PY) -m venv --clear --without-pip $(BENCH)
	@echo "import site; site.addsitedir('$$($(PY) -c $(PACKAGES))')" > "$$($(BENCH)/bin/python -c $(PACKAGES))/book.pth"
	@$(BENCH)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r tests/benchmarks/requirements.txt
	@touch $@

bench: $(BENCH)/.ready
	@OMP_NUM_THREADS=1 $(BENCH)/bin/python -m tests.benchmarks
	@OMP_NUM_THREADS=1 $(BENCH)/bin/python -m tests.benchmarks.curves

status: $(STAMP)
	@$(MINI) $(PY) -m tests.status

coverage: $(STAMP)
	@$(PY) -m tests.covered --jobs $(JOBS)

test-site: $(STAMP)
	@$(PY) -m pip install --quiet --disable-pip-version-check -r tests/site/requirements.txt
	@test -f $(INDEX) || $(BUILD) . >/dev/null
	@SITE_MUST_EXIST=1 $(PY) -m pytest tests/site -m 'browser or not browser' -n $(JOBS) --dist loadgroup

# Two notebooks at a time: each works on one core.
test-full: $(STAMP)
	@$(PY) -m pytest tests/full -m 'full or not full' -n 2 --dist worksteal

links: $(STAMP)
	@$(PY) scripts/links.py

test-versions:
	$(CHECK_PYTHON)
	@$(PYTHON) scripts/versions.py $(ENDS)

repository: $(STAMP)
	@$(PY) scripts/repository.py '$(URL)'

version: $(STAMP)
	@$(PY) scripts/version.py '$(VERSION)'

lock:
	@scripts/lock.sh

# A word that is no target says so, and what is.
.DEFAULT:
	@echo "error: no target '$@'; accepted: book, test, test-slow, site, pdf, sphinx, notebooks, bench, status, coverage, test-site, test-full, links, test-versions, repository, version, lock, clean, help" >&2; exit 2

clean:
	@rm -rf _build build *.egg-info .pytest_cache .hypothesis .coverage
	@find . -path './$(VENV)' -prune -o -name __pycache__ -type d -exec rm -rf {} +
