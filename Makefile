# Every target says what it does: `make help`.
SHELL := /bin/sh
.DEFAULT_GOAL := help

GO ?= go
GOLANGCI_VERSION := 2.15.0
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
BIN := bin/budgetguard

# How many packages are tested at once. Each has a Postgres and a Redis of its own.
P ?= 2
# How long one package may take. The slowest takes under a minute on two idle cores.
TIMEOUT ?= 15m
# The packages of `make test`.
PKG ?= ./...
# How many histories `make laws` runs. Half of them have a store beside that forgets what is closed, in parallel.
HISTORIES ?= 100000
# How long each target of `make fuzz` runs, and part of its name; also the length of `make chaos`.
T ?= 30s
FUZZ ?=
# What decides the faults of `make chaos` (empty takes one from the clock), and the first seed of `make sim`.
SEED ?=
# `make sim` runs so many seeds, each for STEPS. BUG plants one, TRACE=1 prints every step.
SEEDS ?= 50
STEPS ?= 20000
BUG ?=
TRACE ?= 0
# The recorded exchanges of `make replay`.
FILE ?=
# Arguments of `make run`, `make bench` and `make replay`.
ARGS ?=

# The race detector needs a C compiler.
RACE := $(shell $(GO) env CGO_ENABLED 2>/dev/null | grep -q 1 && command -v $$($(GO) env CC) >/dev/null 2>&1 && echo -race)

export GOLANGCI_VERSION

.PHONY: help
help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: run
run: deps build ## build and start everything on 127.0.0.1 (ARGS="--data DIR"); no Docker, no key needed
	@exec $(BIN) dev $(ARGS)

.PHONY: build
build: ## build bin/budgetguard
	$(GO) build -trimpath -buildvcs=false -ldflags '-s -w -X main.version=$(VERSION)' -o $(BIN) ./cmd/budgetguard

.PHONY: test
test: deps ## all tests, with real Postgres and Redis (PKG=./domain/... for some)
	@test -n '$(RACE)' || echo 'test: no C compiler, so without the race detector' >&2
	$(GO) test $(RACE) -shuffle=on -timeout $(TIMEOUT) -p $(P) $(PKG)

.PHONY: laws
laws: ## the ledger's laws in HISTORIES=100000 random histories, without the race detector
	RAPID_CHECKS=$$(($(HISTORIES) / 2)) $(GO) test -count=1 -timeout $(TIMEOUT) ./domain -run TestLawsHoldInEveryHistory

.PHONY: test-clients
test-clients: deps ## slower tests with the real client libraries (build tag "clients")
	$(GO) test $(RACE) -tags clients -timeout $(TIMEOUT) -p $(P) -run 'Client' $(PKG)

.PHONY: lint
lint: ## golangci-lint, at its pinned version
	@scripts/lint.sh run --allow-serial-runners ./...

.PHONY: fmt
fmt: ## format the Go code
	@scripts/lint.sh fmt ./...

.PHONY: fuzz
fuzz: deps ## run each fuzz target for T=30s (FUZZ=Amount for those with that in their name)
	@scripts/fuzz.sh '$(T)' '$(FUZZ)'

.PHONY: chaos
chaos: deps ## break the whole system for T=60s (SEED=n repeats a run, ARGS="-keep" keeps its logs)
	$(GO) run ./internal/chaos -t '$(if $(filter file,$(origin T)),60s,$(T))' $(if $(SEED),-seed '$(SEED)') $(ARGS)

.PHONY: sim
sim: ## simulate gateways, database and provider for SEEDS=50 seeds of STEPS=20000 (SEED=1 is the first)
	@$(GO) run ./internal/sim/simulate -seed $(if $(SEED),$(SEED),1) -seeds $(SEEDS) -steps $(STEPS) -bug '$(BUG)' -trace=$(TRACE)

.PHONY: sim-bugs
sim-bugs: ## plant every seeded bug and print which seed of the simulation finds it
	@$(GO) run ./internal/sim/simulate -seeds $(SEEDS) -steps $(STEPS) -bugs

.PHONY: bench
bench: deps ## the whole system side by side with a plain proxy, then micro-benchmarks (ARGS="-quick")
	$(GO) run ./internal/bench $(ARGS)

.PHONY: replay
replay: deps ## play recorded exchanges against a real gateway and judge each (FILE="a.jsonl b.jsonl", ARGS="-all")
	$(GO) run ./internal/replay $(ARGS) $(FILE)

.PHONY: deps
deps: ## install Postgres and Redis if they are missing
	@scripts/deps.sh

.PHONY: migrate
migrate: build ## bring the database at DATABASE_URL (or MIGRATE_DATABASE_URL) up to date
	@$(BIN) migrate $(ARGS)

.PHONY: verify
verify: ## what CI runs: lint, test and laws
	@.ci/run

.PHONY: clean
clean: ## remove what was built; the data in .budgetguard stays
	rm -rf bin
