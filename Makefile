# Only Python 3.11+ and make are needed; `make` alone lists the targets.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
LOCK := requirements/all.lock
READY := $(VENV)/.ready
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate
TAG ?= stk-ml-serving

.DEFAULT_GOAL := help
.PHONY: help setup train serve demo test lint bench image lock tools clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## virtual environment from the lock file

$(READY): $(LOCK) requirements/uv.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements/uv.lock
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r $(LOCK)
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	touch $@

train: setup ## load a year of real flights and train flight-delay on it
	$(BIN)/stk-ml example flights
	$(BIN)/stk-ml train flight-delay

serve: setup ## serve flight-delay on this machine; trains it first when there is none
	@$(BIN)/stk-ml models show flight-delay >/dev/null 2>&1 || $(MAKE) train
	$(BIN)/stk-ml serve flight-delay

demo: setup ## replay a real year: train, serve over HTTP, watch, retrain; ends with a page and ten lines
	$(BIN)/stk-ml demo

tools: setup ## what some tests need beside Python (from npm a Blob storage emulator and the Kusto parser, from Debian podman); skipped where it cannot be had
	@if command -v npm >/dev/null; then sh tests/lake/install_azurite.sh $(BIN)/python; else echo "no npm: tests on Azurite will be skipped"; fi
	@if command -v npm >/dev/null; then sh tests/telemetry/install_kusto.sh; else echo "no npm: tests by the Kusto parser will be skipped"; fi
	@sh tests/image/install_podman.sh || echo "tests of the image will be skipped"

test: setup tools ## the whole test suite
	$(BIN)/python -m pytest -q -n 2 --dist loadfile

lint: setup ## ruff, mypy --strict, import contract
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

bench: setup ## all benchmarks, one JSON object per line
	@for file in benchmarks/*.py; do $(BIN)/python $$file || exit 1; done

image: setup ## the image of the scoring app, with podman or docker: make image [TAG=...] [BASE_IMAGE=...]
	$(BIN)/python -m build --no-isolation --wheel --outdir dist >/dev/null
	$(BIN)/python environments/serving/build.py $$(ls -t dist/stk_ml-*.whl | head -1) --tag $(TAG) $(if $(BASE_IMAGE),--build-arg BASE_IMAGE=$(BASE_IMAGE))

lock: setup ## resolve the dependencies anew, then those of the image at the same versions
	$(COMPILE) --all-extras pyproject.toml -o $(LOCK)
	$(COMPILE) --constraint $(LOCK) environments/serving/requirements.in -o environments/serving/requirements.lock

clean: ## remove the environment, the lake, the store and the caches
	rm -rf $(VENV) .stk .mypy_cache .ruff_cache .hypothesis dist .tools
