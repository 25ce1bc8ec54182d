.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(CURDIR)/.tools/uv/bin/uv
SETUP := $(VENV)/.setup-complete
LOCKS := requirements/dev.lock requirements/bootstrap.lock

.PHONY: help setup demo test check format bench lock generate clean

help:  ## Show what can be made
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 12

setup: $(SETUP)  ## Make .venv with everything in it

# uv comes from the package index, hash-checked, into a folder of its own: Debian's Python has no venv module of its
# own and refuses installs into the system.
$(UV): requirements/bootstrap.lock
	@rm -rf .tools/uv
	@$(PYTHON) -m pip install --quiet --disable-pip-version-check --no-warn-script-location --require-hashes --target .tools/uv -r requirements/bootstrap.lock
	@touch $(UV)

$(SETUP): $(UV) $(LOCKS) pyproject.toml agent/pyproject.toml
	@test -x $(BIN)/python || $(UV) venv --quiet --python $(PYTHON) $(VENV)
	@$(UV) pip sync --quiet --python $(BIN)/python --require-hashes requirements/dev.lock
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e agent -e .
	@touch $(SETUP)

demo: setup  ## Run everything with a simulated fleet
	@$(BIN)/opsfleet demo

test: setup  ## Run the test suite
	@$(BIN)/pytest -n 4 --dist worksteal

check: setup  ## Run exactly what CI checks
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python -m tests.support.generated --check

format: setup  ## Format the code and mend what can be mended by itself
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

generate: setup  ## Write the generated documents anew
	@$(BIN)/python -m tests.support.generated

bench: setup  ## Run the benchmarks and keep their results
	@$(BIN)/python -m benchmarks

lock: $(UV)  ## Resolve the pinned dependencies anew
	@$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header requirements/bootstrap.in -o requirements/bootstrap.lock
	@$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-package opsfleet-agent pyproject.toml -o requirements/runtime.lock
	@$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-package opsfleet-agent --group dev pyproject.toml -c requirements/runtime.lock -o requirements/dev.lock

clean:  ## Remove what make setup made
	@rm -rf $(VENV) .tools
