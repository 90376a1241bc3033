# Every target does its own set-up in .venv; nothing else has to be installed first.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready

.PHONY: demo test test-slow lint format clean

demo: $(READY)
	$(BIN)/evenhand demo --out demo --overwrite

test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/pytest -m "not slow" -n 2

test-slow: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/pytest -m slow -n 2

lint: $(READY)
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix src tests benchmarks
	$(BIN)/ruff format src tests benchmarks

# The constraints pin torch, too: an unpinned torch may bring several GB of CUDA packages.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

clean:
	rm -rf .venv demo
