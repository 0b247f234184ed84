# What people and CI run. Whatever is fetched or built lives in one folder, which a fresh clone can reuse: only the very first run is slow.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

ADX_FEDERATION_CACHE ?= $(HOME)/.cache/adx-federation
export CARGO_TARGET_DIR := $(ADX_FEDERATION_CACHE)/target
export PIP_CACHE_DIR := $(ADX_FEDERATION_CACHE)/pip
export npm_config_cache := $(ADX_FEDERATION_CACHE)/npm
export GOMODCACHE := $(ADX_FEDERATION_CACHE)/go/mod
export GOCACHE := $(ADX_FEDERATION_CACHE)/go/build

ORACLE := tests/kql-oracle
ARM := tests/arm
JUDGES := tests/judges
# One environment for each set of requirements and each Python, so that switching branches installs nothing anew.
VENV := $(ADX_FEDERATION_CACHE)/venv/$(shell { cat $(JUDGES)/requirements.txt; python3 --version; } | sha256sum | cut -c1-12)
CARGO_DENY := $(ADX_FEDERATION_CACHE)/tools/bin/cargo-deny

# etcd, kube-apiserver and kube-controller-manager in one program, one for each state of its sources.
CONTROL_PLANE := tests/control-plane
export ADX_FEDERATION_CONTROL_PLANE := $(ADX_FEDERATION_CACHE)/tools/control-plane-$(shell cat $(CONTROL_PLANE)/*.go $(CONTROL_PLANE)/go.* | sha256sum | cut -c1-12)
export GOTOOLCHAIN := local
KUBERNETES := $(shell sed -n 's/^\tk8s.io\/kubernetes \(v[0-9.]*\)$$/\1/p' $(CONTROL_PLANE)/go.mod)
# A control plane that is there already is used instead: see CONTRIBUTING.md.
EXISTING_CONTROL_PLANE := $(KUBEBUILDER_ASSETS)$(filter true,$(USE_EXISTING_CLUSTER))

# kstatus, with which Flux and others wait for objects, as a program that judges ours; kubectl is in it, too.
KSTATUS := tests/kstatus
export ADX_FEDERATION_KSTATUS := $(ADX_FEDERATION_CACHE)/tools/kstatus-$(shell cat $(KSTATUS)/*.go $(KSTATUS)/go.* | sha256sum | cut -c1-12)

# Stories wait more than they compute, those of the hub and of partitions (`stories`) most. More of the operator's at a time take longer. Cargo takes one
# number for all that it runs: those whose names begin with an s, and all others.
OPERATOR_THREADS ?= 8
STORY_THREADS ?= 12

# Always the whole workspace: with a part of it cargo unifies features differently and compiles dependencies again.
CARGO_TEST := cargo test --workspace --locked --quiet

.PHONY: help
help: ## What there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: rust programs ## The main job on local Kusto servers; ONCE=1 exits after the queries
	@$(CARGO_TARGET_DIR)/debug/demo $(if $(filter-out 0,$(ONCE)),--once)

.PHONY: test
test: ## Everything, cheap things first
	@.ci/steps toolchain format +kstatus +control-plane kql lint build generated unit -- judges azure =kstatus =control-plane stories

.PHONY: rust
rust:
	@command -v cargo > /dev/null || { echo "Missing on this machine: cargo. Needed: Rust $$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml) or newer."; exit 1; }

.PHONY: toolchain
toolchain: ## Check that what we cannot install is there
	@missing=; for tool in cargo node npm python3 $(if $(EXISTING_CONTROL_PLANE),,go); do command -v $$tool > /dev/null || missing+=" $$tool"; done; \
	 if [ -n "$$missing" ]; then echo "Missing on this machine:$$missing. Needed: Rust $$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml), Node.js 20, Python 3.11, Go 1.26 (or newer)."; exit 1; fi
	@echo "$$(cargo --version), node $$(node --version), $$(python3 --version)"

.PHONY: format
format: ## Check formatting
	cargo fmt --all --check

.PHONY: lint
lint: format ## Formatting, clippy, and what dependencies may be where cargo-deny is installed
	cargo clippy --workspace --all-targets --locked --quiet -- -D warnings
	@if [ -x $(CARGO_DENY) ]; then $(MAKE) --no-print-directory lint-deps; else echo "Not checked: licences and sources of dependencies. 'make lint-deps' installs cargo-deny once, in minutes, and checks them."; fi

.PHONY: kql
kql: ## The tests of the crate kql alone: no dependency worth a minute
	cargo test --package kql --locked --quiet

# With the features that tests ask of dependencies, or else all of those are built once for the programs and once for the tests.
test build unit judges azure stories record: export FOR_TESTS = 1
.PHONY: programs
programs:
	@echo "Building the programs into $(CARGO_TARGET_DIR) ..."
	@cargo build --workspace --bins $(if $(FOR_TESTS),--tests) --locked

.PHONY: build
build: programs ## Every program and test, for the steps that follow
	$(CARGO_TEST) --no-run

.PHONY: unit
unit: ## Unit tests of all crates
	$(CARGO_TEST) --no-fail-fast --lib --bins

.PHONY: judges
judges: judges-install programs ## The corpus and the official SDK against kusto-local
	$(VENV)/bin/python -m pytest $(JUDGES) --ignore=$(JUDGES)/test_azure.py --quiet -ra --tb=short -p no:cacheprovider

.PHONY: azure
azure: judges-install programs ## Microsoft's clients of Azure against our double of it; oav and Prism read what was said
	@recordings=$$(mktemp -d); trap 'rm -rf "$$recordings"' EXIT; outcome=0; \
	 AZURE_RECORDING=$$recordings/sdk.jsonl $(VENV)/bin/python -m pytest $(JUDGES)/test_azure.py --quiet -ra --tb=short -p no:cacheprovider || outcome=$$?; \
	 for judge in oav prism-recordings; do node $(ARM)/$$judge.js $$recordings/*.jsonl || outcome=$$?; done; exit $$outcome

WITNESSED = ADX_FEDERATION_RECORDINGS=$$recordings ADX_FEDERATION_WITNESS=$$recordings/witness

.PHONY: stories
stories: judges-install control-plane kstatus programs ## Integration tests: our programs as processes, the operator on a real control plane
	@recordings=$$(mktemp -d); trap 'rm -rf "$$recordings"' EXIT; outcome=0; \
	 $(WITNESSED) $(CARGO_TEST) --no-fail-fast --test '[!s]*' -- --test-threads=$(OPERATOR_THREADS) || outcome=$$?; \
	 $(WITNESSED) $(CARGO_TEST) --no-fail-fast --test 's*' -- --test-threads=$(STORY_THREADS) || outcome=$$?; \
	 echo "Running benchmarks small, to see that they run ..."; \
	 $(WITNESSED) BENCH_ROWS=20000 BENCH_DATABASES=1 BENCH_OBJECTS=8 BENCH_PARTITIONS=200 $(CARGO_TEST) --bench figures || outcome=$$?; \
	 $(CARGO_TARGET_DIR)/debug/judge-recordings $$recordings || outcome=$$?; tests/no-secrets $$recordings/witness || outcome=$$?; exit $$outcome
	deploy/images/check $(CARGO_TARGET_DIR)/debug '$(STATIC)'
	@echo "Running the demo as README.md tells people to ..."
	@$(MAKE) --no-print-directory demo ONCE=1

.PHONY: control-plane
control-plane: $(if $(EXISTING_CONTROL_PLANE),,$(ADX_FEDERATION_CONTROL_PLANE)) ## Build etcd, kube-apiserver and kube-controller-manager, once
	@true

$(ADX_FEDERATION_CONTROL_PLANE):
	@echo "Building etcd, kube-apiserver and kube-controller-manager from their Go modules (once: 10 minutes, 3 GB of cache) ..."
	@mkdir -p $(@D)
	cd $(CONTROL_PLANE) && CGO_ENABLED=0 nice go build -trimpath -o $@ -ldflags "-s -w \
	  -X k8s.io/component-base/version.gitVersion=$(KUBERNETES) -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=$(word 2,$(subst ., ,$(KUBERNETES)))" .

.PHONY: kstatus
kstatus: $(if $(shell command -v go),$(ADX_FEDERATION_KSTATUS)) ## Build kstatus, by which others wait for our objects, and kubectl, once
	@[ -x $(ADX_FEDERATION_KSTATUS) ] || { echo "Skipped: kstatus judges nothing here and kubectl shows nothing, because there is no go to build them with."; [ -z "$(CI)" ]; }

$(ADX_FEDERATION_KSTATUS):
	@echo "Building kstatus and kubectl from their Go modules (once: two minutes, 600 MB of cache) ..."
	@mkdir -p $(@D)
	cd $(KSTATUS) && CGO_ENABLED=0 nice go build -trimpath -o $@ -ldflags "-s -w" .

# What an image holds and figures are about is linked with all that it needs: an image has no library then, and a program in memory no page of one. For that cargo
# must be told the target, or procedural macros would be linked so, too; and getrandom, which looks its function up by name where it is not told.
HOST = $(shell rustc -vV | sed -n 's/^host: //p')
STATIC = $(if $(wildcard $(shell cc -print-file-name=libc.a)),-C target-feature=+crt-static --cfg getrandom_backend="linux_getrandom")
RELEASED = $(CARGO_TARGET_DIR)/$(HOST)/release
# What an image holds. Each program is minutes of linking, so that no other is built but kusto-local, which the benchmarks run.
PROGRAMS := operator agent-hub agent-partition

.PHONY: release
release: rust
	@echo "Building the programs for release into $(RELEASED) ..."
	@$(if $(STATIC),,echo "They are linked with this machine's C library and what belongs to it: its static form (libc.a) is missing.")
	@RUSTFLAGS='$(STATIC) '"$${RUSTFLAGS:-}" cargo build --release $(addprefix --bin ,$(PROGRAMS) kusto-local) --workspace --locked --target $(HOST)

# The most that the image may have, a sixth more than it has now: every node pulls it.
IMAGE_BYTES := 24000000

.PHONY: images
images: release ## An OCI image of the release build, for `podman load`, `skopeo copy` or `ctr images import`
	@$(if $(STATIC),deploy/images/static $(addprefix $(RELEASED)/,$(PROGRAMS)))
	deploy/images/build $(RELEASED) $(ADX_FEDERATION_CACHE)/images/adx-federation.tar $(IMAGE_BYTES)

.PHONY: bench
bench: release ## Figures of the release build, whose first one takes half an hour; PARTS="scale beat" takes some
	@ADX_FEDERATION_PROGRAMS=$(RELEASED) $(CARGO_TEST) --bench figures -- $(PARTS)

.PHONY: generate
generate: ## Write the files that are generated and committed
	@mkdir -p deploy/crds
	cargo build --workspace --bins --locked
	$(CARGO_TARGET_DIR)/debug/operator crds > deploy/crds/crds.yaml
	ADX_FEDERATION_GENERATE=1 $(CARGO_TEST) --lib document::schema

.PHONY: generated
generated: ## Check that the generated files are those that `make generate` writes (after `build`)
	@$(CARGO_TARGET_DIR)/debug/operator crds | diff -u deploy/crds/crds.yaml - || { echo "Run 'make generate' and commit what it writes."; exit 1; }

.PHONY: record
record: control-plane programs ## Record what an operator leaves, for the story of an upgrade; OPERATOR=path BUILD=commit of an earlier one
	@$(CARGO_TARGET_DIR)/debug/record-operator $(or $(OPERATOR),$(CARGO_TARGET_DIR)/debug/operator) $(or $(BUILD),$(shell git rev-parse --short HEAD))

.PHONY: judges-install
judges-install: $(ORACLE)/node_modules/.package-lock.json $(ARM)/node_modules/.package-lock.json $(VENV)/complete

$(ORACLE)/node_modules/.package-lock.json: $(ORACLE)/package-lock.json
	@echo "Installing Microsoft's KQL parser from npm (32 MB unpacked) ..."
	npm ci --prefix $(ORACLE) --prefer-offline --no-audit --no-fund
	@touch $@

# No scripts: the one that there is tells its author who installs it.
$(ARM)/node_modules/.package-lock.json: $(ARM)/package-lock.json
	@echo "Installing Microsoft's oav and Stoplight's Prism from npm (120 MB unpacked) ..."
	npm ci --prefix $(ARM) --prefer-offline --no-audit --no-fund --ignore-scripts --loglevel=error
	@touch $@

$(VENV)/complete:
	@echo "Installing the official Kusto and Azure SDKs, duckdb-kql and pytest from PyPI into $(VENV) (150 MB) ..."
	@rm -rf $(VENV)
	python3 -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --require-hashes --requirement $(JUDGES)/requirements.txt
	@touch $@

.PHONY: judges-lock
judges-lock: ## Pin requirements.in anew
	python3 -m venv $(ADX_FEDERATION_CACHE)/venv/pip-tools
	$(ADX_FEDERATION_CACHE)/venv/pip-tools/bin/pip install --quiet pip-tools
	cd $(JUDGES) && $(ADX_FEDERATION_CACHE)/venv/pip-tools/bin/pip-compile --quiet --upgrade --generate-hashes --strip-extras --no-emit-find-links --no-emit-options requirements.in

.PHONY: lint-deps
lint-deps: $(CARGO_DENY) ## Licences and sources of all dependencies (deny.toml)
	$(CARGO_DENY) --locked check bans licenses sources

$(CARGO_DENY):
	@echo "Installing cargo-deny into $(ADX_FEDERATION_CACHE)/tools; this takes minutes ..."
	cargo install cargo-deny --locked --root $(ADX_FEDERATION_CACHE)/tools
