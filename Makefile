# Two commands: `make run` and `make test`. Each sets up its own .venv first, when needed.
# Another interpreter:  make run PYTHON=/path/to/python3.12

PYTHON ?=
VENV   := .venv
PY     := $(VENV)/bin/python
READY  := $(VENV)/.ready
EXTRAS := notebooks,assignment,test
PIP    := $(PY) -m pip --disable-pip-version-check -qq
CELL_TIMEOUT := 900

# Threads that wait for each other sleep (see kdutils/__init__.py); for the kernels that we start too.
export OMP_WAIT_POLICY ?= passive
# Tests run side by side, in processes of one thread each: twice the work of one process with two.
# The hash seed is fixed because all of them must see the tests in the same order.
SIDE_BY_SIDE := OMP_NUM_THREADS=1 PYTHONHASHSEED=0 $(PY) -m pytest -n logical --maxprocesses=4 --dist loadscope
LOWEST_TESTS := $(addprefix tests/,test_losses.py test_metrics.py test_models.py test_optim.py test_views.py \
  test_data.py test_soft_targets.py test_train.py pretrained sources course/plots)

NEW_ENOUGH := 'import sys; sys.exit(sys.version_info < (3, 11))'
# Renamed first: interrupted half-way, it must not look like one that works.
REMOVE_VENV := rm -rf $(VENV).old; [ ! -e $(VENV) ] || mv $(VENV) $(VENV).old; rm -rf $(VENV).old

.DEFAULT_GOAL := help
.PHONY: help run test test-hostile test-lowest test-mutants lab app picture assignment grade setup clean FORCE

help: ## show this list
	@echo "Knowledge distillation, hands on. Each command sets up .venv first (about 2 minutes, once):"
	@echo
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1 \2/p' $(MAKEFILE_LIST) | awk '{c = $$2; $$1 = $$2 = ""; printf "  make %-11s%s\n", c, $$0}'

run: $(READY) ## run the whole series without a browser, print the results table
	@$(PY) -m kdutils run

test: $(READY) ## run the unit tests, and every notebook in the smoke profile
	@echo "Running the tests, and every notebook on the drawn shapes in the smoke profile (some minutes) ..."
	@KDUTILS_PROFILE=smoke KDUTILS_DATA=shapes $(SIDE_BY_SIDE) --nbval-lax --nbval-current-env \
	  --nbval-cell-timeout=$(CELL_TIMEOUT) $(TEST_ARGS) tests $(wildcard notebooks/[0-9][0-9]_*.ipynb)

test-hostile: $(READY) ## kills, full disks, damaged files: about 20 minutes, needs root for a small tmpfs
	@KDUTILS_PROFILE=smoke KDUTILS_DATA=shapes OMP_NUM_THREADS=1 $(PY) -m pytest -m hostile $(TEST_ARGS) tests/hostile

test-lowest: $(READY) ## try the lowest versions that pyproject.toml allows, in .venv-lowest (6 GB, some minutes)
	$(PY) .ci/lowest.py > .lowest.txt
	$(PY) -m venv --clear .venv-lowest
	.venv-lowest/bin/python -m pip install --disable-pip-version-check -q -c .lowest.txt -e . pytest pytest-timeout
	OMP_NUM_THREADS=1 .venv-lowest/bin/python -m pytest -q -x $(LOWEST_TESTS)
	rm -rf .venv-lowest .lowest.txt

test-mutants: $(READY) ## plant bugs and see that tests turn red (SAMPLE=mutants a module; 0: all, hours)
	@$(PIP) install -c constraints.txt -e '.[mutants]'
	@$(PY) tests/mutants.py planted
	@$(PY) tests/mutants.py score --sample $(or $(SAMPLE),24)

lab: $(READY) ## open JupyterLab on the first notebook
	@$(PY) -m jupyter lab notebooks/01_data.ipynb

app: $(READY) ## serve the interactive figures as a page without code, print its address
	@echo "Starting the page; its address follows. Ctrl-C ends it."
	@$(PY) -m voila notebooks/app/app.ipynb --Voila.config_file_paths=notebooks/app $(APP_ARGS)

picture: $(READY) ## take the README's picture anew, in a browser (DATA=folder of real images)
	@$(PY) -m pytest -q tests/browser/test_browser.py -k test_app --require-browser \
	  --screenshots $(VENV)/pictures $(if $(DATA),--pictured-data "$(DATA)")
	@cp $(VENV)/pictures/temperature_slider.png notebooks/figures/temperature_slider.png

assignment: $(READY) ## write what students get: without solutions and hidden tests
	@$(PY) notebooks/assignment/grade.py assignment

grade: $(READY) ## grade the submissions in DIR=folder (TIMEOUT=seconds a cell, AGAIN=1: all anew)
	@[ -n "$(DIR)" ] || { echo 'Say which folder: make grade DIR=submissions' >&2; exit 2; }
	@$(PY) notebooks/assignment/grade.py grade "$(DIR)" $(if $(TIMEOUT),--timeout "$(TIMEOUT)") $(if $(AGAIN),--again)

setup: $(READY) ## only set up .venv

clean: ## remove .venv (what was trained, in results/, stays)
	$(REMOVE_VENV)

# The stamp holds the folder it was made in: a checkout that moved is installed anew.
ifneq ($(shell cat $(READY) 2>/dev/null),$(CURDIR))
$(READY): FORCE
endif

$(READY): pyproject.toml constraints.txt
	@set -e; \
	python=; \
	for candidate in $(if $(PYTHON),"$(PYTHON)",python3 python3.14 python3.13 python3.12 python3.11 python); do \
	  if "$$candidate" -c $(NEW_ENOUGH) >/dev/null 2>&1; then \
	    python="$$candidate"; break; \
	  fi; \
	done; \
	if [ -z "$$python" ]; then \
	  echo "Python 3.11 or newer is needed, and $(or $(PYTHON),python3) is $$($(or $(PYTHON),python3) -V 2>&1 | tail -n 1)." >&2; \
	  echo "Install a newer one, then: make PYTHON=/path/to/python3.12 ..." >&2; exit 1; \
	fi; \
	if ! "$$python" -c 'import venv, ensurepip' >/dev/null 2>&1; then \
	  echo "$$python cannot make virtual environments: its venv module is missing." >&2; \
	  echo "On Debian or Ubuntu: sudo apt install python3-venv" >&2; exit 1; \
	fi; \
	if [ -e $(VENV)/.installing ] || ! $(PY) -c $(NEW_ENOUGH) >/dev/null 2>&1; then \
	  if [ -e $(VENV) ]; then echo "$(VENV) is unfinished or does not run: starting it afresh."; fi; \
	  $(REMOVE_VENV); \
	  echo "Making $(VENV) with $$("$$python" -V) ..."; \
	  "$$python" -m venv $(VENV); \
	fi; \
	rm -f $(READY); : > $(VENV)/.installing; \
	$(PY) -m pip --version >/dev/null 2>&1 || $(PY) -m ensurepip --default-pip >/dev/null; \
	$(PIP) install --upgrade -c constraints.txt pip 2>/dev/null \
	  || echo "pip could not be renewed; going on with $$($(PY) -m pip --version | cut -d' ' -f1,2)."; \
	echo "Installing PyTorch, Jupyter and the rest (about 2 minutes, 6 GB with the GPU libraries that come along) ..."; \
	$(PIP) install --no-compile --progress-bar off -c constraints.txt -e '.[$(EXTRAS)]' || { \
	  echo "The installation failed: see the lines above. When the network is back, run the same command again." >&2; exit 1; }; \
	echo "Checking that everything imports ..."; \
	env -u PYTHONDONTWRITEBYTECODE $(PY) -c 'import torch, torchvision.ops, torchmetrics, pandas, scipy.stats, seaborn, ipywidgets, ipykernel.kernelapp, nbclient, nbconvert, jupytext, nbval.plugin, kdutils' || { \
	  echo "The packages are installed but do not import: see the lines above. 'make clean' and the same command start afresh." >&2; exit 1; }; \
	printf '%s\n' '$(CURDIR)' > $(READY); rm -f $(VENV)/.installing
