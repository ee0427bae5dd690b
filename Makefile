# make repro    rebuild everything on the built-in sample; PROFILE=paper for the paper's setting
# make test     run the tests
# make test-light  run the tests of the shipped generators in .venv-light, where no TensorFlow is installed
# make test-lowest  run the tests in .venv-lowest, with the lowest versions that pyproject.toml allows; needs uv
# make consumers  run the tests with the tools that exports are for, which it installs: some 3 GB with PyTorch
# make bench    measure speed against what a user would write instead: benchmarks/RESULTS.md; half an hour
# make figures  the paper's figures 3 and 4 on the built-in sample, seven trainings: studies/paper_figures/README.md
# make faults   break it on purpose: kills, full disks, rot, hostile files; benchmarks/RELIABILITY.md; an hour
# make unknown  learn fourteen unknown distortions and judge them: PHOTOS=DIR, ONLY=camera,webp for some; benchmarks/UNKNOWN.md
# make check    formatter, linter, strict types, directions of imports
# make docs     the pages of the Python API in build/api
# make schema   write params.schema.json anew, from the sections of config.py
# make lock     pin the dependencies anew; needs uv
# make clean    remove what the above have made
#
# Each makes its own environment in .venv first: Python 3.11, 3.12 or 3.13 and make are all that it needs.

PYTHON ?= python3
PROFILE ?=
PHOTOS ?=
ONLY ?=

VENV := .venv
LIGHT := .venv-light
LOWEST := .venv-lowest
READY := $(VENV)/ready
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c

export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
export DVC_NO_ANALYTICS := 1
# not beside the code: the study of the paper's figures depends on folders of it that its .dvcignore does not reach
export PYTHONPYCACHEPREFIX := $(CURDIR)/$(VENV)/pycache

LOCKED := --universal --python-version 3.11 --fork-strategy fewest --generate-hashes --no-annotate \
  --custom-compile-command 'make lock' --quiet

.PHONY: repro docs test test-light test-lowest consumers bench figures faults unknown check schema lock clean
.DELETE_ON_ERROR:

repro: $(READY)
	@if [ -n "$(PROFILE)" ]; then python -m profiles.apply "$(PROFILE)"; fi
	dvc repro
	@python -m stages.summary

test: $(READY)
	python -m pytest

# docs/usage.md has the same recipe by hand; pins would bring TensorFlow.
test-light:
	$(PYTHON) -m venv $(LIGHT)
	$(LIGHT)/bin/python -m pip install --quiet pytest hypothesis $$($(PYTHON) -c 'import tomllib; print(*( \
	  name.replace(" ", "") for name in tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"] \
	  if not name.startswith(("keras", "tensorflow"))))')
	$(LIGHT)/bin/python -m pip install --quiet --no-deps .
	$(LIGHT)/bin/python -m pytest tests/test_without_tensorflow.py tests/test_api.py

# Not the tests of the repository and its locks, of DVC, and of pages in browsers: they need other packages, pinned ones.
test-lowest:
	uv venv --quiet --seed --clear --python $(PYTHON) $(LOWEST)
	uv pip install --quiet --python $(LOWEST)/bin/python --resolution lowest-direct . pytest==8.3.4 hypothesis==6.120.0 \
	  scikit-image==0.25.0 setuptools==77.0.3
	PYTHONPATH=pipeline $(LOWEST)/bin/python -m pytest tests --ignore tests/test_repository.py --ignore tests/test_dvc_path.py \
	  --ignore tests/test_paper_figures.py --ignore tests/benchmarks --ignore tests/test_benchmarks.py

consumers: $(READY)
	$(PIP) install --quiet --no-build-isolation --editable '.[consumers]'
	python -m pytest -m consumers tests/consumers

bench: $(READY)
	python -m benchmarks

# A DVC project of its own, so that dvc in the root neither shows nor runs it.
figures: $(READY)
	cd studies/paper_figures && dvc repro
	@cat studies/paper_figures/build/figures/table.md
	@echo "figures: studies/paper_figures/build/figures"

# Each test has limits of its own on time, the whole has this one; FAULTS_KILLS=3 and the like make it shorter.
faults: $(READY)
	FAULTS_TALLY=$(CURDIR)/benchmarks/results/faults timeout 7200 python -m pytest -m slow tests/faults
	python -m benchmarks.reliability

unknown: $(READY)
	@[ -n "$(PHOTOS)" ] || { echo "name a folder of photographs: make unknown PHOTOS=DIR" >&2; exit 2; }
	$(PIP) install --quiet --no-build-isolation --editable '.[unknown]'
	python -m benchmarks.unknown "$(PHOTOS)" $(if $(ONLY),--only $(ONLY))

check: $(READY)
	ruff format --check .
	ruff check .
	mypy -p distort_pipeline -p stages -p profiles -p benchmarks -p examples -p studies
	lint-imports

docs: $(READY)
	$(PIP) install --quiet --no-build-isolation --editable '.[docs]'
	python docs/api.py

schema: $(READY)
	python -m distort_pipeline.commands.params > params.schema.json

# One set of pins for Python 3.11 to 3.13; hashes and no addresses, so that any index will do.
lock:
	echo 'setuptools>=77' | uv pip compile $(LOCKED) --upgrade --output-file requirements-build.lock -
	uv pip compile $(LOCKED) --upgrade --constraints requirements-build.lock --extra dvc --extra dev \
	  --output-file requirements.lock pyproject.toml

clean:
	rm -rf $(VENV) $(LIGHT) $(LOWEST) build studies/paper_figures/build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

# The build tools come first, as one dependency has to be built; so nothing that is not pinned is ever fetched.
$(READY): requirements.lock requirements-build.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { \
	  echo "Python 3.11, 3.12 or 3.13 is needed, and $(PYTHON) is not: make PYTHON=python3.12, say" >&2; exit 2; }
	@echo "making $(VENV): about 160 packages, of which TensorFlow is the largest; a minute or two"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install --quiet --require-hashes -r requirements-build.lock
	@$(PIP) install --no-build-isolation --require-hashes -r requirements.lock \
	  | awk '/^Collecting/ { if (++n % 20 == 0) { print "  " n " packages"; fflush() } } /^Installing/ { print "  installing them"; fflush() }'
	@$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@
