# Rapport's front door. `make help` lists the targets.
#
# Set-up is in three steps, each redone only when what it depends on changed: .ci/prepare (system packages, .venv),
# .ci/install (dependencies, editable install: stamp .venv/.installed), and compiling core/, server/, loadtest/ and tests/fuzz/ in
# place (stamp build/.compiled). A second `make run` or `make test` goes straight to its work.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VENV := .venv
PY := $(VENV)/bin/python
# The tools call each other by name: cython-lint runs pycodestyle.
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
JOBS ?= $(shell nproc 2>/dev/null || echo 2)
# Build time only: what the compiled modules are made of.
SOURCES := $(shell find core server loadtest tests/fuzz -name '*.pyx' -o -name '*.pxd' -o -path '*/native/*.[ch]' 2>/dev/null)

# --- set-up ---------------------------------------------------------------------------------------------------

.PHONY: prepare ready
prepare:
	@.ci/prepare

$(VENV)/.installed: pyproject.toml .ci/install | prepare
	@echo 'Installing Rapport and what it needs into .venv (a few minutes the first time) ...' >&2
	@.ci/install
	@touch $@

# Only the modules whose sources changed are compiled; all of them when the flags in setup.py did.
build/.compiled: setup.py $(VENV)/.installed $(SOURCES)
	@mkdir -p build
	@echo 'Compiling the core (a minute or two the first time; the log is build/compile.log) ...' >&2
	@$(PY) setup.py -q build_ext --inplace --parallel $(JOBS) $(if $(filter setup.py,$?),--force) \
		>build/compile.log 2>&1 || { tail -n 40 build/compile.log >&2; \
		echo 'The core could not be compiled; the end of build/compile.log is above.' >&2; exit 70; }
	@touch $@

ready: prepare build/.compiled ## set up only: system packages, .venv, compiled core

# --- running --------------------------------------------------------------------------------------------------

.PHONY: run stop
run: ready ## set up, load the demo, start the server, show three decisions; the server stays up
	@$(PY) -m server.cli.showcase start

stop: ## end the server that `make run` started
	@if [ -x $(PY) ]; then $(PY) -m server.cli.showcase stop; else echo 'Nothing is set up here, so nothing runs.' >&2; fi

# --- checking -------------------------------------------------------------------------------------------------

.PHONY: test test-clients lint crash fuzz sanitize fuzz-bytes
# Tests fork children that look at damaged stores. gRPC would start its threads in them, and they need none; beside
# AddressSanitizer, whose lock nobody gives back in a child, such a thread waited for ever.
test crash fuzz sanitize: export GRPC_ENABLE_FORK_SUPPORT = 0
# Lint does not stop the tests: one run tells everything. loadfile keeps a file's tests, and its servers, on one worker.
test: ready ## lint, types, import contracts, every test, 10,000 decisions against the oracle (what .ci/run runs)
	@status=0; $(MAKE) lint || status=$$?; \
	$(PY) -m pytest -n $(JOBS) --dist loadfile $(ARGS) || status=$$?; \
	if [ $$status -ne 0 ]; then echo 'make test: something above failed (lint and types come before the tests).' >&2; fi; \
	exit $$status

# The two builds take minutes the first time and use the registries of their own clients. Reasons for what is left out come last.
test-clients: ready ## unmodified clients against the server: grpcio, grpc-js, grpc-go, grpc-java, h2load; those that are there
	@RAPPORT_CLIENTS=all timeout --kill-after=30 1800 $(PY) -m pytest -v -m clients tests/conformance $(ARGS)

lint: ready ## ruff, cython-lint, mypy, pyright, import contracts
	@status=0; \
	check() { echo "- $$*" >&2; "$(VENV)/bin/$$@" || status=1; }; \
	check ruff check -q --output-format concise .; \
	check cython-lint $(filter %.pyx %.pxd,$(SOURCES)); \
	check mypy --no-error-summary; \
	check pyright --pythonpath $(PY) --warnings; \
	check lint-imports --no-logo; \
	exit $$status

crash: ready ## all faults in full (make test: a sample): kills, failing disks, power cuts; RAPPORT_CRASH_ROUNDS sets how many
	@RAPPORT_CRASH_ROUNDS=$${RAPPORT_CRASH_ROUNDS:-1000} $(PY) -m pytest tests/crash $(ARGS)

fuzz: ready ## kernel against oracle on 200,000 random decisions; RAPPORT_CASES and RAPPORT_SEED set others
	@RAPPORT_CASES=$${RAPPORT_CASES:-200000} $(PY) -m pytest tests/property $(ARGS)

# A copy of the tree, so that a slow build never mixes with the fast one.
copied = mkdir -p $(1) && tar --exclude=./build --exclude=./.venv --exclude=./.git --exclude=./data --exclude='*.so' -cf - . | tar -xf - -C $(1)

# Servers, trials and other processes that tests start inherit the sanitizers. What these find in any process is written into
# reports/, and a file there fails the run whatever the tests say. What is undefined traps, and is told as ILL. The C++
# library is loaded first, for AddressSanitizer looks once where exceptions are thrown. RAPPORT_CASES is small, for it is slow.
sanitize: ready ## every test under AddressSanitizer and UndefinedBehaviorSanitizer; what they find lies in build/sanitized/reports
	@rm -rf build/sanitized && $(call copied,build/sanitized) && mkdir build/sanitized/reports
	@echo 'Compiling with the sanitizers (minutes; the log is build/sanitized/compile.log) ...' >&2
	@cd build/sanitized && RAPPORT_SANITIZE=1 ../../$(PY) setup.py -q build_ext --inplace --parallel $(JOBS) >compile.log 2>&1 \
		|| { tail -n 40 compile.log >&2; exit 70; }
	@cd build/sanitized && status=0 && \
	LD_PRELOAD="$$(cc -print-file-name=libasan.so) libstdc++.so.6" PYTHONMALLOC=malloc PYTHONPATH="$$PWD" \
		ASAN_OPTIONS="detect_leaks=0:handle_sigill=2:log_path=$$PWD/reports/found" \
		RAPPORT_CASES=$${RAPPORT_CASES:-1000} RAPPORT_SHARED_DATA="$${RAPPORT_SHARED_DATA:-$(abspath ../shared/data)}" \
		../../$(PY) -m pytest -n $(JOBS) --dist loadfile $(ARGS) || status=$$?; \
	if [ -n "$$(ls reports)" ]; then head -n 15 reports/* >&2; \
		echo 'The sanitizers found something, above; whole reports lie in build/sanitized/reports.' >&2; status=1; fi; \
	exit $$status

# What was found and learnt before stays in build/fuzzed.
fuzz-bytes: ready ## an hour of libFuzzer (needs clang) on the bytes of requests, connections and feeds; ARGS='--seconds 60 --keep'
	@$(call copied,build/fuzzed)
	@$(PY) -m tests.fuzz.campaign $(ARGS)

# --- measuring and generating ---------------------------------------------------------------------------------

.PHONY: bench bench-large load figures real protos
bench: ready ## decisions in process and over gRPC, and the cost model; tables here, JSON under build/bench/
	@$(PY) -m loadtest.inprocess $(ARGS)

bench-large: ready ## start, decisions and size at 10,000,000 customers beside 1,000,000 (10 GB of disk, minutes)
	@$(PY) -m loadtest.large $(ARGS)

load: ready ## a short load test of shop, served here: throughput against p99; the report lies under build/load/
	@$(PY) -m loadtest steps --serve shop --customers 20000 --into build/load $(ARGS)

figures: ready ## the README's figures and pictures from the newest results of bench and load
	@$(PY) -m loadtest.readme $(ARGS)

real: ready ## decide over published data sets and compare with pandas and scikit-learn (data: RAPPORT_SHARED_DATA)
	@$(PY) -m loadtest.realdata $(ARGS)

protos: ready ## write the Python code of the protos anew, beside them
	@$(PY) -m protos.generate

# --- the rest -------------------------------------------------------------------------------------------------

.PHONY: clean distclean help
clean: ## remove what was built (keeps .venv and data/)
	@rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find core server protos loadtest tests -name __pycache__ -prune -exec rm -rf {} +
	@find core server loadtest tests -name '*.so' -delete

distclean: clean ## also remove .venv and the demo's data
	@rm -rf $(VENV) data

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | awk -F '\t' '{printf "  make %-12s %s\n", $$1, $$2}'
