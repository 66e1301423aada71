# Plain targets for people and for .ci/run; `make help` lists them.

VERSION  := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
FUZZTIME ?= 1m
# FUZZTIME may also be a number of inputs, like 100000x.
# How long each of the long tests of `make soak` goes on.
SOAK     ?= 30m
# indigo's programs, which the end-to-end tests run behind the server.
INDIGO := .cache/bin/relay .cache/bin/tap

.PHONY: build run test test-race test-e2e test-reference test-network screenshots cross lint fmt bench fuzz soak generate clean help

build: ## the static binary bin/nestbox
	CGO_ENABLED=0 go build -trimpath -ldflags '-X main.version=$(VERSION)' -o bin/nestbox ./cmd/nestbox

run: build ## a server that needs nothing else, for trying out
	@exec bin/nestbox serve --dev

test: build .cache/bin/gotestsum e2e/node_modules/.package-lock.json $(INDIGO) ## every test: vet, race, stores, end to end
	@.ci/test vet plain race e2e

test-race: .cache/bin/gotestsum ## every test but the end-to-end ones, under the race detector
	@.ci/test plain race

test-e2e: build .cache/bin/gotestsum e2e/node_modules/.package-lock.json $(INDIGO) ## real clients against the real binary
	@.ci/test e2e

screenshots: e2e/node_modules/.package-lock.json ## a picture of every page, narrow and wide, light and dark, in .cache/screenshots
	@rm -rf .cache/screenshots && mkdir -p .cache/screenshots
	NESTBOX_SCREENSHOTS=$(CURDIR)/.cache/screenshots go test ./e2e/browser -count=1 -v -run TestPages

cross: ## vet, and compile the tests, for every other system that we support
	@.ci/cross

test-reference: build e2e/node_modules/.package-lock.json ## a repository to the reference PDS and back, and its validation; `make bench` installs it
	NESTBOX_BIN=$(CURDIR)/bin/nestbox PDS_REFERENCE=$(CURDIR)/.cache/bench/reference \
		go test -tags reference ./e2e ./lexicon -run Reference -count=1 -v

test-network: build e2e/node_modules/.package-lock.json e2e/network/node_modules/.package-lock.json ## the real AppView and Ozone behind the server; needs PostgreSQL, 600 MB of packages, and what `make bench` installs
	NESTBOX_BIN=$(CURDIR)/bin/nestbox PDS_REFERENCE=$(CURDIR)/.cache/bench/reference \
		go test -tags reference,network ./e2e -run '^TestNetwork' -count=1 -v

# With the flags of `make build`, so that both share what is compiled.
lint: .cache/bin/golangci-lint ## golangci-lint with .golangci.yml, and a tidy go.mod
	.cache/bin/golangci-lint config verify
	GOFLAGS="$${GOFLAGS:-} -trimpath" CGO_ENABLED=0 .cache/bin/golangci-lint run ./...
	go mod tidy -diff

fmt: .cache/bin/gofumpt ## format what git knows of
	git ls-files '*.go' | xargs .cache/bin/gofumpt -l -w

bench: build ## figures beside the reference PDS's, for docs/performance.md
	bench/run

fuzz: ## each fuzz target for FUZZTIME
	@.ci/fuzz $(FUZZTIME)

soak: build e2e/node_modules/.package-lock.json $(INDIGO) ## for the night: 500 rounds of kill -9, and the long tests for SOAK each
	NESTBOX_BIN=$(CURDIR)/bin/nestbox NESTBOX_KILL_ROUNDS=500 NESTBOX_SOAK=$(SOAK) \
		go test ./e2e ./store/... -run 'Kill|Soak|LogBound' -count=1 -timeout 24h -v

generate: ## what is written by tools: docs/settings.md, the schemas of records
	go generate ./...

clean: ## what was built here; caches of Go and npm stay
	rm -rf bin .cache bench/out

help: ## this list
	@grep -hE '^[a-z0-9-]+:.*## ' Makefile | sed -E 's/^([a-z0-9-]+):.*## /\1\t/' | expand -t 16

# Tools are pinned in tools/go.mod and built once for each change of it.
# golangci-lint takes minutes from nothing, seconds with a warm build cache.
.cache/bin/golangci-lint: TOOL = github.com/golangci/golangci-lint/v2/cmd/golangci-lint
.cache/bin/gofumpt:       TOOL = mvdan.cc/gofumpt
.cache/bin/gotestsum:     TOOL = gotest.tools/gotestsum
.cache/bin/typecheck:     TOOL = ./typecheck
.cache/bin/typecheck: tools/typecheck/main.go
.cache/bin/%: tools/go.mod tools/go.sum
	cd tools && GOBIN=$(CURDIR)/.cache/bin CGO_ENABLED=0 go install -trimpath -ldflags '-s -w' $(TOOL)
	@touch $@

# Their SQLite is C; without a compiler the tests say that they are left out. From
# nothing they take some two minutes on two cores.
$(INDIGO): tools/relay/go.mod tools/relay/go.sum
	@mkdir -p .cache/bin
	@if command -v "$$(go env CC)" >/dev/null; then cd tools/relay && \
		CGO_ENABLED=1 go build -ldflags '-s -w' -o $(CURDIR)/$@ github.com/bluesky-social/indigo/cmd/$(@F) && touch $(CURDIR)/$@; fi

# The real clients of the end-to-end tests. Without npm .ci/test says what is left out.
e2e/node_modules/.package-lock.json: e2e/package.json e2e/package-lock.json
	@if command -v npm >/dev/null; then cd e2e && npm ci --no-audit --no-fund && touch node_modules/.package-lock.json; fi

# The AppView, the moderation service, and the Node that they need. No package of it
# needs a script to be installed.
e2e/network/node_modules/.package-lock.json: e2e/network/package.json e2e/network/package-lock.json
	@if command -v npm >/dev/null; then cd e2e/network && npm ci --loglevel error --ignore-scripts --no-audit --no-fund && touch node_modules/.package-lock.json; fi
