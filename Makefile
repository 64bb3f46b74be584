# perdure: the commands that a developer needs. "make run" and "make test" do all the set-up.

GO ?= go
BIN := bin/perdure
SEEDS ?= 20000
CHAOS ?= 10m
ROUNDS ?= 500
FAILOVERS ?= 50
EVERY ?= 1
FUZZTIME ?= 30s

.PHONY: help run build test test-clients race bench proof fuzz mutants

help: ## list the commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /	/' | expand -t 14

run: build ## build, and serve the example funcs on 127.0.0.1:8088 with perdure.db
	./$(BIN) serve --examples

build: ## build bin/perdure
	CGO_ENABLED=0 $(GO) build -o $(BIN) ./cmd/perdure

test: ## check and test everything, with the race detector where there is a C compiler
	.ci/test

test-clients: ## run the Postgres tests on the newest Postgres that npm has; needs npm
	.ci/clients

race: ## run the tests with the race detector, in random order
	$(GO) test -race -shuffle=on ./...

bench: build ## measure speed and memory on this machine
	./$(BIN) bench

proof: ## run the long proofs and rewrite docs/proof.md (SEEDS=20000 CHAOS=10m ROUNDS=500 EVERY=1 FAILOVERS=50)
	.ci/proof $(SEEDS) $(CHAOS) $(ROUNDS) $(EVERY) $(FAILOVERS)

mutants: ## put faults into the code, one at a time, and see which tests find them
	$(GO) run ./internal/mutants

fuzz: ## fuzz everything that parses input from outside (FUZZTIME=30s each)
	.ci/fuzz $(FUZZTIME)
