# The commands of this repository. `make` alone lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help

# Dependencies build once for tests, checks and the demo: one profile, one set of features (the whole workspace).
# Beside cargo: libraries in C and C++ that need not be compiled with the crates.
CARGO ?= scripts/cargo.sh
PROFILE := --release
TARGET := $(or $(CARGO_TARGET_DIR),target)
MILLRACE := $(TARGET)/release/millrace

.PHONY: help
help: ## list these commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 22

.PHONY: build
build: ## build the millrace command, demo included
	@scripts/install-packages.sh build
	$(CARGO) build $(PROFILE) --workspace --bins

# The command alone, of the same build: what else there is to build is for tests and benchmarks.
.PHONY: command
command:
	@scripts/install-packages.sh build
	$(CARGO) build $(PROFILE) --workspace --bin millrace

.PHONY: dist
dist: ## what is shipped: the optimised millrace command without the demo, in target/dist
	@scripts/install-packages.sh build
	MILLRACE_SYSTEM_LIBRARIES=no $(CARGO) build --profile dist --locked --package millrace --no-default-features
	scripts/check-dist.sh $(TARGET)/dist/millrace

.PHONY: docker-test
docker-test: build ## build the image, bring the whole compose stack up, kill a worker, take it down (PROGRAM=target/dist/millrace)
	@scripts/install-packages.sh test docker
	docker/test/test.sh $(abspath $(or $(PROGRAM),$(MILLRACE)))

.PHONY: demo
demo: command ## the whole product on simulated retail data, in one process, with a view in the terminal (RATE=500: purchases a second)
	$(MILLRACE) demo $(if $(RATE),--rate $(RATE))

.PHONY: demo-full
demo-full: command ## the same on all 1,469,307 transactions, which are fetched first
	@scripts/install-packages.sh data
	configs/demo/training/setup.sh
	$${HOME}/.cache/millrace/venv/bin/python configs/demo/data/make_sample.py --full demo-data/full
	$(MILLRACE) demo --data demo-data/full --directory demo-data/full-state

.PHONY: demo-check
demo-check: command ## the demo with all bundled events, without a terminal; exits 0 if every event is accounted for
	$(MILLRACE) demo --events all --exit --directory "$$(mktemp -d)/demo"

# Suites that wait for their services most of the time, the longest first: TEST_JOBS of them run at once.
TEST_JOBS ?= 3
SUITES := crash_points inference_sink_kafka inference_sink retail_job postgres_catalog cases neighbours soak rest_kit worker_rest \
    group store_reads kafka_network client_restarts worker_outage kafka_client metrics demo_interrupted record_writer tasks \
    archive_s3 broker_laws_kafka global_store_kafka group_liveness store_changes state_topics dev_broker_faults global_store_dev
# All others, of every package: one after the other.
OTHER_SUITES := $(sort $(filter-out $(SUITES),$(basename $(notdir $(wildcard */tests/*.rs))) $(notdir $(patsubst %/main.rs,%,$(wildcard */tests/*/main.rs)))))

.PHONY: test
test: ## install what is missing and run all tests, those against Apache Kafka included; unit tests first
	@scripts/install-packages.sh build test
	@$(MAKE) --no-print-directory --keep-going --jobs=1 unit-tests suites doc-tests

.PHONY: unit-tests suites doc-tests
unit-tests: ## those beside the code
	$(CARGO) test $(PROFILE) --workspace --no-fail-fast --lib --bins
suites: ## those in the crates' tests/ folders, several programs at a time (TEST_JOBS=1: one after the other)
	$(CARGO) test $(PROFILE) --workspace --no-run --test '*'
	@$(MAKE) --no-print-directory --keep-going --jobs=$(TEST_JOBS) --output-sync=target $(SUITES:%=suite-%) other-suites
doc-tests:
	$(CARGO) test $(PROFILE) --workspace --doc

# What a suite prints comes in one piece, when it ends. MAKEFLAGS names make's job server, which recipes are not given: cargo would warn.
.PHONY: $(SUITES:%=suite-%) other-suites
$(SUITES:%=suite-%): suite-%:
	@MAKEFLAGS= $(CARGO) test $(PROFILE) --workspace --no-fail-fast --test $*
other-suites:
	@MAKEFLAGS= $(CARGO) test $(PROFILE) --workspace --no-fail-fast $(OTHER_SUITES:%=--test %)

.PHONY: bench
bench: build $(if $(MILLRACE_BENCH_BINARY),,dist) ## what ships beside the programs it replaces: a table, and bench-results.json (ONLY="path latency" for some)
	@scripts/install-packages.sh test bench
	MILLRACE_BENCH_BINARY=$(or $(MILLRACE_BENCH_BINARY),$(abspath $(TARGET)/dist/millrace)) \
	    $(TARGET)/release/millrace-bench $(if $(ROUNDS),--rounds $(ROUNDS)) $(ONLY)

.PHONY: bench-compare
bench-compare: build ## two builds of millrace: make bench-compare BEFORE=old/millrace AFTER=new/millrace ONLY=path (TOGETHER=yes: at once)
	@scripts/install-packages.sh test bench
	@[ -n "$(BEFORE)" ] && [ -n "$(AFTER)" ] || { echo "bench-compare: BEFORE and AFTER are the two millrace commands" >&2; exit 2; }
	$(TARGET)/release/millrace-bench compare --before $(BEFORE) --after $(AFTER) $(if $(TOGETHER),--together) $(if $(ROUNDS),--rounds $(ROUNDS)) $(ONLY)

.PHONY: soak
soak: build ## kill the worker 50 times at random moments under load (MILLRACE_SOAK_SEED=N repeats a run)
	@scripts/install-packages.sh build test
	MILLRACE_SOAK_KILLS=$${MILLRACE_SOAK_KILLS:-50} $(CARGO) test $(PROFILE) --workspace --test soak -- --nocapture

.PHONY: restarts
restarts: build ## restart the broker 200 times under a worker, every other time without notice (MILLRACE_BROKER_RESTARTS=N for others)
	@scripts/install-packages.sh build test
	MILLRACE_BROKER_RESTARTS=$${MILLRACE_BROKER_RESTARTS:-200} $(CARGO) test $(PROFILE) --workspace --test worker_outage on_apache_kafka -- --nocapture

.PHONY: outages
outages: build ## the retail job with each service away for a minute, one after the other (MILLRACE_OUTAGE_SECONDS=N for others)
	@scripts/install-packages.sh build test
	MILLRACE_OUTAGE_SECONDS=$${MILLRACE_OUTAGE_SECONDS:-60} $(CARGO) test $(PROFILE) --workspace --test retail_job -- --nocapture

.PHONY: sanitize
sanitize: ## the suites that go through librdkafka, with AddressSanitizer in our code and in librdkafka's (a build of its own)
	@scripts/install-packages.sh build test
	scripts/sanitize.sh

.PHONY: check
check: ## formatting, lints, documentation, crate directions, licences, advisories where they can be had
	@scripts/install-packages.sh build
	$(CARGO) fmt --all --check
	$(CARGO) clippy $(PROFILE) --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc $(PROFILE) --workspace --no-deps
	$(CARGO) test $(PROFILE) --workspace --test architecture --test licences
	@scripts/check-advisories.sh || [ $$? = 75 ]
