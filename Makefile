# Every target does its own set-up in .venv; nothing else has to be installed first.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready

.PHONY: demo test test-slow lint format docs package clean

demo: $(READY)
	$(BIN)/evenhand demo --out demo --overwrite

test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/pytest -m "not slow" -n 2

test-slow: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/pytest -m slow -n 2

lint: $(READY)
	$(BIN)/ruff check src tests benchmarks docs
	$(BIN)/ruff format --check src tests benchmarks docs
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix src tests benchmarks docs
	$(BIN)/ruff format src tests benchmarks docs

# Runs the tutorials, too, and ends in build/site/index.html.
docs: $(READY)
	NO_MKDOCS_2_WARNING=1 OMP_NUM_THREADS=1 $(BIN)/mkdocs build

# The constraints pin torch, too: an unpinned torch may bring several GB of CUDA packages.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

package: $(READY)
	bash .ci/package

clean:
	rm -rf .venv demo build
