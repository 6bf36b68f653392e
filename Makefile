# Each target works on a machine with Python 3.11+, make and a package index; the venv is made on first use.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Much of a test's time is waiting, so four run at once even on two cores. A file stays with one worker, and files run
# in the order of tests/conftest.py: by number of tests, as would be usual, the few long tests would come last.
PYTEST_ARGS ?= -n 4 --dist loadfile --no-loadscope-reorder

# Tests start Python hundreds of times, and each start reads what the first has compiled.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo serve dev test chaos live-day check format reference bench bench-words clean doctor image

# A line `##@ Title` starts a group; the text behind a target's `##` is its line.
help:  ## Show this list
	@echo 'Stenobird: URL in, events out. Each target installs what it needs into $(VENV) first.'
	@awk 'BEGIN { FS = ":.*## " } \
		/^##@ / { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@printf '\nNew here? Start with "make demo"; README.md goes on from there.\n'

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Stenobird needs Python 3.11 or newer; try: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed-%: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing Stenobird with [$*] into $(VENV) (a minute or two the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$*]'
	@touch $@

##@ Try it

demo: $(VENV)/.installed-demo  ## Transcribe a bundled recording with the real service; downloads a model (70 MB)
	@$(BIN)/stenobird demo

serve: $(VENV)/.installed-offline  ## Run the service on http://127.0.0.1:8000; downloads a Whisper model on first use
	@$(BIN)/stenobird serve

##@ Develop

dev: $(VENV)/.installed-dev  ## Install what developers need; the targets below do it too

test: $(VENV)/.installed-dev  ## Run every test; PYTEST_ARGS="-n 4 tests/unit" runs some of them
	@$(BIN)/python -m pytest $(PYTEST_ARGS)

chaos: $(VENV)/.installed-dev  ## Break everything for ten minutes; CHAOS_ARGS=--short takes two, --seed N repeats a run
	@$(BIN)/python -m tests.support.chaos $(CHAOS_ARGS)

live-day: $(VENV)/.installed-dev  ## Two hours of live audio in ten minutes, with cut connections and kills; DAY_ARGS=--minutes 30
	@$(BIN)/python -m tests.support.live_day $(DAY_ARGS)

check: $(VENV)/.installed-dev  ## Check style, types and import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

format: $(VENV)/.installed-dev  ## Format the code
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

reference: $(VENV)/.installed-dev  ## Write docs/reference, openapi.json and the guides under /docs from the code
	@$(BIN)/python -m tools.reference
	@$(BIN)/stenobird openapi -o openapi.json

bench: $(VENV)/.installed-dev  ## Measure speed and memory against plain faster-whisper (some 20 minutes)
	@$(BIN)/python -m tests.bench $(BENCH_ARGS)

bench-words: $(VENV)/.installed-dev  ## Compare texts with plain faster-whisper's; BENCH_ARGS="--folder DIR --model base"
	@$(BIN)/python -m tests.bench.words $(BENCH_ARGS)

clean:  ## Remove the venv and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

##@ Operate

doctor: $(VENV)/.installed-offline  ## Check the settings, the data folder, the database and the speech engine
	@$(BIN)/stenobird doctor

image:  ## Build the container image; VARIANT=cuda for GPUs (needs Docker, Podman or Buildah)
	@tools/container/build.sh $(or $(VARIANT),cpu) $(IMAGE_ARGS)
