# Every target sets itself up: .venv is made on first use and refreshed when pyproject.toml or
# constraints.txt change. Options:
#   make PYTHON=python3.12 ...    another interpreter (3.11 or newer)
#   make PIP_FLAGS="..." ...      more flags for pip, such as an --extra-index-url (the README names one)

PYTHON ?= python3
PIP_FLAGS ?=
BIN := .venv/bin
READY := .venv/.ready

.DEFAULT_GOAL := help
.PHONY: help demo test check bench-text bench-engine bench-image bench-faults clean
.DELETE_ON_ERROR:

help:  ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1@/p' $(MAKEFILE_LIST) | awk -F@ '{ printf "%-18s %s\n", $$1, $$2 }'

demo test: export HF_HUB_OFFLINE := 1

demo: $(READY)  ## fine-tune on the packaged support tickets and open with a verdict, no network needed
	$(BIN)/whet demo

test: $(READY)  ## run the tests
	$(BIN)/pytest --dist loadfile -n "$$($(BIN)/python -c \
	  'from whet.training.machine import usable_cores; print(min(8, usable_cores()))')"

check: $(READY)  ## verify format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench-text: $(READY)  ## measure text classification beside its peers
	$(BIN)/python benchmarks/bench_text.py

bench-engine: $(READY)  ## measure the engine beside its peers, and every method's accuracy
	$(BIN)/python benchmarks/bench_engine.py

bench-image: $(READY)  ## measure image classification beside its peers
	$(BIN)/python benchmarks/bench_image.py

bench-faults: $(READY)  ## kill runs of every method at random points, damage checkpoints, and compare bytes
	$(BIN)/python benchmarks/bench_faults.py

clean:  ## remove .venv, caches and build outputs; runs/ stays
	rm -rf .venv build dist src/*.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

# pip is the last thing that venv writes, so a half-made .venv is made again.
$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "whet needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) --version 2>&1)."; \
	  echo "  try: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 2; }
	$(PYTHON) -m venv --clear .venv

$(READY): pyproject.toml constraints.txt | $(BIN)/pip
	@echo 'Installing into .venv; the first time takes some minutes.'
	$(BIN)/python -m pip install --quiet $(PIP_FLAGS) -c constraints.txt -e '.[dev,image,lora,schedule-free,tensorboard,energy]'
	@touch $@
