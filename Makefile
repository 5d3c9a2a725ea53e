# Everything here needs Go 1.26 and make; the race detector also a C compiler.
# Tools are built from the versions pinned in go.mod and tools/*.mod.

GO    ?= go
BUILD := build

# The git revision whose plugin contract must still be kept.
BASE ?= main

# The binary is static; everything but the race detector follows it.
export CGO_ENABLED := 0

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null)
LDFLAGS := -s -w $(if $(VERSION),-X main.version=$(VERSION))

TOOL := $(GO) tool -modfile=tools/go.mod
BUF  := $(GO) tool -modfile=tools/buf.mod buf

# Where goroutines live. The end-to-end tests run real processes, which the
# race detector does not see into.
RACE := ./core/... ./sdk/... ./plugins/...
E2E  := ./e2e/...
UNIT  = $(shell $(GO) list ./... | grep -v '/e2e\(/\|$$\)')

FUZZTIME   ?= 10s
BENCH      ?= .
BENCHTIME  ?= 1s
BENCHCOUNT ?= 1

.DEFAULT_GOAL := build

.PHONY: build
build: ## the static binary, build/pipelined
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BUILD)/ ./cmd/...

.PHONY: test
test: build lint generate-check tidy-check unit race e2e ## all that must hold before a change goes in

.PHONY: unit
unit: ## tests of the packages
	$(GO) test -shuffle=on -timeout 5m $(UNIT)

.PHONY: race
race: ## short tests of the packages with goroutines, under the race detector
	CGO_ENABLED=1 $(GO) test -race -short -shuffle=on -timeout 10m $(RACE)

.PHONY: e2e
e2e: build ## real binary, real processes, real servers
	$(GO) test -count=1 -timeout 10m $(E2E)

# How many processes the campaign kills at least, and its first scenario.
N    ?= 1000
SEED ?= 1

.PHONY: torture
torture: ## kills processes at random moments and looks for every row; N kills from scenario SEED on; build/torture/matrix.md
	mkdir -p $(BUILD)/torture
	$(GO) test -count=1 -timeout 0 ./e2e/torture -run '^TestCampaign$$' -v -args \
		-kills $(N) -seed $(SEED) -report $(CURDIR)/$(BUILD)/torture/matrix.md -keep $(CURDIR)/$(BUILD)/torture/failed

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZTIME
	@grep -rno --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*' . | sort | while IFS=: read -r file _ func; do \
		echo "== $$file $${func#func }"; \
		$(GO) test -run '^$$' -fuzz "^$${func#func }$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x "$$(dirname "$$file")" || exit 1; \
	done

.PHONY: bench
bench: build ## benchmarks; compare two outputs with: go tool -modfile=tools/go.mod benchstat OLD NEW
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchmem -benchtime $(BENCHTIME) -count $(BENCHCOUNT) -timeout 60m ./...

# Measurements of long runs in turn, ROUNDS of each variant. PEERS is where the
# programs to compare with are built; their sources are not part of this module.
ROUNDS ?= 5
PEERS  ?= $(CURDIR)/$(BUILD)/peers
SIFT_STREAM := ../shared/peers/sift_stream/Cargo.toml
SIDEBYSIDE = $(GO) test -run '^$$' -benchtime 1x -timeout 0 -v ./e2e/sidebyside

.PHONY: bench-checkpoint
bench-checkpoint: ## a checkpoint every second or one at the end: processor time and pauses, at least 10 pairs
	$(SIDEBYSIDE) -bench '^BenchmarkCheckpoint$$' -args -rounds $(if $(filter-out file,$(origin ROUNDS)),$(ROUNDS),10)

.PHONY: bench-drain
bench-drain: ## a stored gigabyte is sent while live rows come: MB/s and latency
	$(SIDEBYSIDE) -bench '^BenchmarkDrain$$' -args -rounds $(ROUNDS)

.PHONY: bench-reference
bench-reference: ## live with backups, the reference client or this program; needs cargo and ../shared
	@if ! command -v cargo >/dev/null || ! test -f $(SIFT_STREAM); then \
		echo "bench-reference: skipped, there is no cargo or no $(SIFT_STREAM)"; exit 0; \
	fi; \
	CARGO_TARGET_DIR=$(PEERS)/sift_stream cargo build --release --locked --manifest-path $(SIFT_STREAM) && \
	$(SIDEBYSIDE) -bench '^BenchmarkReference$$' -args -rounds $(ROUNDS) -peers $(PEERS)/sift_stream

.PHONY: lint
lint: lint-format lint-go lint-proto proto-breaking ## format, vet, staticcheck, house rules, contract

.PHONY: lint-format
lint-format:
	@files=$$($(TOOL) gofumpt -l .) || exit 1; \
	if [ -n "$$files" ]; then echo "not formatted; run make format:"; echo "$$files"; exit 1; fi

.PHONY: lint-go
lint-go:
	$(GO) vet ./...
	$(TOOL) staticcheck ./...
	$(GO) test ./internal/archtest

.PHONY: lint-proto
lint-proto:
	$(BUF) lint
	$(BUF) format --diff --exit-code

.PHONY: proto-breaking
proto-breaking: ## the contract against that of the git revision BASE
	@if ! git cat-file -e $(BASE):proto/pipelined 2>/dev/null; then \
		echo "proto-breaking: skipped, there is no $(BASE):proto/pipelined to compare with"; exit 0; \
	fi; \
	rm -rf $(BUILD)/base && mkdir -p $(BUILD)/base && \
	git archive $(BASE) buf.yaml proto | tar -x -C $(BUILD)/base && \
	echo "proto-breaking: comparing with $(BASE)" && \
	$(BUF) breaking --against $(BUILD)/base

.PHONY: vuln
vuln: ## known vulnerabilities in what is linked; needs the vulnerability database
	$(TOOL) govulncheck ./...

.PHONY: format
format: ## formats Go and .proto files in place
	$(TOOL) gofumpt -w .
	$(BUF) format --write

.PHONY: generate
generate: ## Go code from the .proto files
	$(BUF) generate

.PHONY: generate-check
generate-check: ## the generated code is that of the .proto files
	@rm -rf $(BUILD)/generated && $(BUF) generate --output $(BUILD)/generated
	@diff -r -x '*.proto' -x '*_test.go' -x doc.go -x testdata $(BUILD)/generated/proto proto || \
		{ echo "generated code is not current; run make generate"; exit 1; }

.PHONY: tidy
tidy: ## go.mod and go.sum, and those of the tools
	$(GO) mod tidy
	cd tools && $(GO) mod tidy && $(GO) mod tidy -modfile=buf.mod

.PHONY: tidy-check
tidy-check:
	$(GO) mod tidy -diff
	cd tools && $(GO) mod tidy -diff && $(GO) mod tidy -diff -modfile=buf.mod

.PHONY: cross
cross: ## binaries for the other processors
	GOOS=linux GOARCH=arm64 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BUILD)/linux-arm64/ ./cmd/...
	GOOS=linux GOARCH=arm GOARM=7 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BUILD)/linux-armv7/ ./cmd/...

.PHONY: clean
clean:
	rm -rf $(BUILD)

.PHONY: help
help:
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1: /p' Makefile
