# Each target works on a machine with Python 3.11+, make and a package index; the venv is made on first use.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
EXTRAS := dev
STAMP := $(VENV)/.installed-$(EXTRAS)
# Much of a test's time is waiting, so three run at once even on two cores. A file stays with one worker, and files run
# in their order: by number of tests, as would be usual, the few long tests would come last, one after the other.
PYTEST_ARGS ?= -n 3 --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help dev demo serve test check bench image format openapi reference clean

help:  ## Show this list
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-9s %s\n", $$1, $$2}'

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Stenobird needs Python 3.11 or newer; try: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed-%: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing Stenobird with [$*] into $(VENV) (a minute or two the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$*]'
	@touch $@

dev: $(VENV)/.installed-dev  ## Make the venv with everything a developer needs

demo: $(VENV)/.installed-demo  ## Transcribe a bundled clip through the real service: words within seconds
	@$(BIN)/stenobird demo

serve: $(VENV)/.installed-offline  ## Run the service on http://127.0.0.1:8000
	@$(BIN)/stenobird serve

test: $(VENV)/.installed-dev  ## Run every test
	@$(BIN)/python -m pytest $(PYTEST_ARGS)

check: $(VENV)/.installed-dev  ## Lint, types, formatting and import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

bench: $(VENV)/.installed-dev  ## Print speed and memory as ratios to plain faster-whisper (some 20 minutes)
	@$(BIN)/python -m tests.bench $(BENCH_ARGS)

reference: $(VENV)/.installed-dev  ## Write docs/reference and the guides of the web pages anew
	@$(BIN)/python -m tools.reference

image:  ## Build the container image, with VARIANT=cuda the one for GPUs (needs Docker, Podman or Buildah)
	@tools/container/build.sh $(or $(VARIANT),cpu) $(IMAGE_ARGS)

format: $(VENV)/.installed-dev  ## Format the code
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

clean:  ## Remove the venv and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
