# privyseal. `make demo` and `make test` are all that a newcomer needs; they
# build or install what is missing, once, into a cache outside this folder.

SHELL := bash
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
GO      := go
# Everything that a build depends on is in the commit: the same commit gives the
# same bytes.
BUILD   := CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=auto -ldflags '-s -w'
# A measured program leaves out what differs between two checkouts of the same
# code: only what runs is measured.
BUILD_ENCLAVE := CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -ldflags '-s -w -buildid='
LINT    := honnef.co/go/tools/cmd/staticcheck@v0.8.2

# What a program consists of: every package of this module that is not a test of
# another program.
PACKAGES := ./aiakos/... ./cmd/... ./internal/... ./yubihsm/...

# All tests and what they build are compiled the same way, and so once: without cgo, as the
# programs are, and without the name of this folder, so that another clone finds it in the
# cache. `check` has vetted them.
GOFLAGS_TEST := GOFLAGS="$(strip $(shell $(GO) env GOFLAGS) -trimpath)"
GO_TEST := CGO_ENABLED=0 $(GOFLAGS_TEST) $(GO) test -vet=off

# Documents that AWS signed are beside the repository. Where they are there, no test
# may skip them.
VECTORS := $(wildcard ../shared/vectors/nitro)
ifneq ($(VECTORS),)
export PRIVYSEAL_REQUIRE_VECTORS := 1
endif

# No test may skip the OpenBao server where it can be installed.
OPENBAO := PRIVYSEAL_REQUIRE_OPENBAO=$$(scripts/setup can-openbao 2>/dev/null && echo 1)

# Nor etcd, which is built like the nodes.
ETCD := PRIVYSEAL_REQUIRE_ETCD=1

# Nor dynalite, which is a DynamoDB of others.
DYNAMODB := PRIVYSEAL_REQUIRE_DYNAMODB=$$(scripts/setup can-dynamodb 2>/dev/null && echo 1)

# Nor dcap-qvl, which judges quotes of SGX and TDX beside ours.
QVL := PRIVYSEAL_REQUIRE_DCAP_QVL=$$(scripts/setup can-dcap-qvl 2>/dev/null && echo 1)

# Nor Yubico's programs, which judge our simulator of a YubiHSM 2.
YUBIHSM := PRIVYSEAL_REQUIRE_YUBIHSM=$$(scripts/setup can-yubihsm 2>/dev/null && echo 1)

.PHONY: all demo test bench release man vectors fuzz install clean check race unit interop nodes mutants mutants-share

all:
	@mkdir -p bin
	$(BUILD) -o bin/privyseal ./cmd/privyseal
	$(BUILD_ENCLAVE) -o bin/privyseal-enclave ./cmd/privyseal-enclave
	$(BUILD_ENCLAVE) -o bin/privyseal-sgx ./cmd/privyseal-sgx

# A real chain, signed by privyseal, until interrupted or for BLOCKS blocks.
demo: all
	@scripts/setup nodes v0.38.26
	@$(GO) run ./test/demo -privyseal bin/privyseal $(if $(BLOCKS),-blocks $(BLOCKS))

# Everything that must pass.
test: setup check unit mutants-share race operators interop nodes
	@if scripts/setup can-sgx 2>/dev/null; then $(MAKE) --no-print-directory test-sgx; fi
	@if scripts/setup can-qemu 2>/dev/null; then $(MAKE) --no-print-directory test-nitro; fi
	@echo "make test: everything passed"
	@scripts/setup can-qemu 2>&1 | sed 's/^setup: /make test: left out, the enclave in QEMU: /'
	@scripts/setup can-sgx 2>&1 | sed 's/^setup: /make test: left out, the program of SGX enclaves: /'
	@scripts/setup can-openbao 2>&1 | sed 's/^setup: /make test: left out, keys on a Vault server: /'
	@scripts/setup can-dynamodb 2>&1 | sed 's/^setup: /make test: left out, marks on a DynamoDB of others: /'
	@scripts/setup can-dcap-qvl 2>&1 | sed 's/^setup: /make test: left out, what judges quotes beside ours: /'
	@scripts/setup can-yubihsm 2>&1 | sed 's/^setup: /make test: left out, what judges the simulated YubiHSM: /'
ifeq ($(VECTORS),)
	@echo "make test: left out, documents and envelopes that AWS made: ../shared/vectors/nitro is not there"
endif

setup:
	@scripts/setup debian
	@scripts/setup nodes
	@scripts/setup promtool
	@scripts/setup etcd
	@scripts/setup openbao
	@scripts/setup dynamodb
	@scripts/setup dcap-qvl
	@scripts/setup yubihsm
.PHONY: setup

check:
	@echo "== gofmt, vet, staticcheck"
	@test -z "$$(gofmt -l aiakos cmd internal test yubihsm)" || { gofmt -l aiakos cmd internal test yubihsm; echo "run gofmt -w on these"; exit 1; }
	@$(GO) mod tidy -diff
	@CGO_ENABLED=0 $(GOFLAGS_TEST) $(GO) vet ./...
	@CGO_ENABLED=0 GOFLAGS="-mod=mod -trimpath" $(GO) run $(LINT) ./...
	@for os in linux/amd64 linux/arm64 darwin/arm64; do \
		CGO_ENABLED=0 $(GOFLAGS_TEST) GOOS=$${os%/*} GOARCH=$${os#*/} $(GO) vet $(PACKAGES) || exit 1; done
	@for program in $(MEASURED); do $(LINKED) ./$$program | diff $$program/packages.txt - || \
		{ echo "$$program links other packages: if that is intended, run make packages"; exit 1; }; done

# What is linked into the measured programs, for review.
MEASURED := cmd/privyseal-enclave cmd/privyseal-sgx
LINKED   := $(GO) list -deps -f '{{if not .Standard}}{{.ImportPath}}{{end}}'
packages:
	@for program in $(MEASURED); do $(LINKED) ./$$program >$$program/packages.txt || exit 1; done
.PHONY: packages

unit:
	@echo "== unit tests, vectors, fuzz seeds, scripts, crash tests"
	@$(ETCD) $(OPENBAO) $(DYNAMODB) $(QVL) $(YUBIHSM) PRIVYSEAL_REQUIRE_PROMTOOL=$$(scripts/setup can-qemu 2>/dev/null && echo 1) PRIVYSEAL_REQUIRE_NODES=1 $(GO_TEST) $(PACKAGES) ./test/crash/... ./test/hostile ./test/mutants ./test/yubihsm

# Each fault of the lists in test/mutants, put into the code, makes a test fail.
# `make test` runs about a hundred of them, at each commit the next.
mutants:
	@echo "== mutants, all of them"
	@$(ETCD) $(OPENBAO) $(DYNAMODB) $(QVL) $(YUBIHSM) PRIVYSEAL_REQUIRE_NODES=1 CGO_ENABLED=0 $(GOFLAGS_TEST) $(GO) run ./test/mutants
mutants-share:
	@echo "== mutants, the share of this commit"
	@$(ETCD) $(OPENBAO) $(DYNAMODB) $(QVL) $(YUBIHSM) PRIVYSEAL_REQUIRE_NODES=1 CGO_ENABLED=0 $(GOFLAGS_TEST) $(GO) run ./test/mutants -share

# The tests of etcdtest itself wait for other programs; the race detector sees it work for
# those of internal/etcd. Those of SEQUENTIAL start no goroutine (TestWhatRaceLeavesOut).
SEQUENTIAL := internal/arch internal/awspolicy internal/sgx internal/yubico
race:
	@echo "== race detector"
	@$(ETCD) $(OPENBAO) $(DYNAMODB) $(QVL) $(YUBIHSM) PRIVYSEAL_REQUIRE_NODES=1 CGO_ENABLED=1 $(GOFLAGS_TEST) $(GO) test -vet=off -race ./aiakos $$($(GO) list ./internal/... | grep -vxF $(patsubst %,-e privyseal/%,$(SEQUENTIAL) internal/etcd/etcdtest)) ./test/hostile

# What operators do, in any order: 1,800 random stories of states in files, 30 of hosts that
# share one in etcd, 4 whose cluster comes out of snapshots, 20 of hosts that share one in a table,
# and those that are kept. -count=1: they build the program, of which go test's cache knows
# nothing.
operators:
	@echo "== operators"
	@$(ETCD) $(GO_TEST) -count=1 -timeout 30m ./test/operator
.PHONY: operators

# The modules of other programs check our bytes, and we theirs. Each is a Go
# module of its own, so that none of them is ever linked into privyseal.
interop:
	@echo "== against the modules of CometBFT v0.34, v0.38, v0.40 and v1.0"
	@scripts/interop

nodes:
	@echo "== real nodes"
	@$(ETCD) $(OPENBAO) PRIVYSEAL_REQUIRE_NODES=1 $(GO_TEST) -count=1 -timeout 60m ./test/e2e

# Other signers' own programs sign a real chain, and privyseal takes over: tmkms, built by
# cargo, and a cluster of Horcrux. tmkms does so on a simulated YubiHSM, too. The tests of
# the witness, of a YubiHSM and of privyseal inside the node run with every version, those
# of etcd with its older lines, and those of DynamoDB on moto; and a few hundred random lives of
# hosts that share a state in etcd. It is not part of `make test`, because it needs Rust and
# builds for minutes; it has to be green before an issue that touches migrate, the wire, etcd,
# DynamoDB or the witness is called resolved.
test-peers:
	@scripts/setup nodes
	@scripts/setup peers
	@scripts/setup etcd-lines
	@scripts/setup moto
	@echo "== other lines of etcd"
	@for etcd in $$(scripts/setup list-etcd | sed 1d); do \
		[ ! -x "$$(scripts/setup bin)/etcd-$$etcd" ] || { echo "etcd $$etcd" && \
		line=$${etcd#v} && $(ETCD) PRIVYSEAL_ETCD_LINE=$${line%.*} $(GO) test -count=1 ./internal/etcd/... ./internal/etcdstore; } || exit 1; done
	@echo "== moto's DynamoDB"
	@PRIVYSEAL_REQUIRE_MOTO=$$(scripts/setup can-moto 2>/dev/null && echo 1) $(GO) test -count=1 -run TestMoto ./internal/dynamostore
	@echo "== operators of hosts that share a state, for longer"
	@$(ETCD) $(GO) test -count=1 -timeout 60m -run TestRandomInEtcd ./test/operator -etcd 300 -length 25
	@if command -v gramine-sgx-sign >/dev/null; then echo "== the real Gramine" && \
		PRIVYSEAL_REQUIRE_GRAMINE=1 $(GO) test -count=1 -run TestGramine ./test/sgx/e2e; \
		else echo "left out: the real Gramine is not installed (doc/sgx.md)"; fi
	@echo "== tmkms and Horcrux, and privyseal in their place"
	@cd test/peers && $(GO) vet ./... && $(GO) test -count=1 -timeout 60m ./...
	@echo "== the witness, a YubiHSM, and privyseal inside the node, with every version; a thousand blocks on several hosts"
	@$(ETCD) PRIVYSEAL_REQUIRE_NODES=1 PRIVYSEAL_EVERY_VERSION=1 $(GO) test -count=1 -timeout 60m -run 'TestWitness|TestInProcess|YubiHSM|TestSeveralHosts' ./test/e2e
.PHONY: test-peers

# The real enclave image, booted in QEMU, with a security module and a KMS of the
# tests' own around it. Brings QEMU and builds the kernel, once. The stories of
# test/hostile, which `unit` and `race` run in their own process, boot the image here.
test-nitro: nitro-setup
	@echo "== the enclave in QEMU"
	@$(ETCD) PRIVYSEAL_REQUIRE_NITRO=1 PRIVYSEAL_REQUIRE_NODES=1 PRIVYSEAL_HOSTILE=qemu $(GO_TEST) -count=1 -p 1 -timeout 60m ./test/nitro/... ./test/hostile

# The program of SGX enclaves as it is shipped, in a world of its own without SGX: files of
# /dev/attestation, a CPU that seals and an Intel that certifies it (test/sgx/rig). The
# stories of test/hostile have a host lie to it.
test-sgx:
	@scripts/setup can-sgx
	@scripts/setup nodes v0.38.26 v0.40.0
	@scripts/setup etcd
	@echo "== the program of SGX enclaves"
	@PRIVYSEAL_REQUIRE_SGX=1 PRIVYSEAL_REQUIRE_NODES=1 $(GO_TEST) -count=1 -timeout 30m ./test/sgx/...
	@$(ETCD) PRIVYSEAL_REQUIRE_SGX=1 PRIVYSEAL_HOSTILE=sgx $(GO_TEST) -count=1 -timeout 30m ./test/hostile

# The same chain as `make demo`, signed from inside of an SGX enclave, without SGX; then with
# another CPU.
demo-sgx: all
	@scripts/setup can-sgx
	@scripts/setup nodes v0.38.26
	@$(GO) run ./test/sgx/demo -bin bin $(if $(BLOCKS),-blocks $(BLOCKS))
.PHONY: test-sgx demo-sgx

# Our client of a YubiHSM, and the simulator behind it, on the USB of a machine in QEMU:
# Debian's kernel plays both ends, and a real node makes blocks there.
test-usb:
	@scripts/setup debian
	@scripts/setup nodes v0.38.26
	@scripts/setup qemu
	@scripts/setup usb-kernel
	@echo "== a YubiHSM on the USB, in QEMU"
	@PRIVYSEAL_REQUIRE_USB=1 $(GO) test -count=1 -timeout 15m ./test/usb
.PHONY: test-usb

# Three more kernels, so it is not part of `make test`: one like AWS's, with modules,
# and both of ours again in another folder.
test-kernel: nitro-setup
	@echo "== kernels: with modules; the same twice"
	@kernel/build --arch amd64 --or-other --nsm-as-module >/dev/null
	@PRIVYSEAL_REQUIRE_KERNELS=1 PRIVYSEAL_REQUIRE_NITRO=1 PRIVYSEAL_REQUIRE_NODES=1 \
		$(GO) test -count=1 -run TestKernel -timeout 60m ./test/nitro/e2e

# The same chain as `make demo`, signed from inside the enclave.
demo-nitro: nitro-setup all
	@$(GO) run ./test/nitro/demo -bin bin $(if $(BLOCKS),-blocks $(BLOCKS))

nitro-setup:
	@scripts/setup can-qemu
	@scripts/setup nodes v0.38.26 v0.40.0
	@scripts/setup etcd
	@scripts/setup qemu
	@scripts/setup qemu-nitro
	@scripts/setup qemu-arm64
	@scripts/setup debian-kernel amd64
	@scripts/setup debian-kernel arm64
	@kernel/build --arch amd64 --or-other >/dev/null
	@kernel/build --arch arm64 --or-other >/dev/null
.PHONY: test-nitro test-kernel demo-nitro nitro-setup

# The table of doc/performance.md, measured now.
bench: all
	@cd test/bench && $(GO) run . -privyseal ../../bin/privyseal
	@if ! why=$$(scripts/setup can-qemu 2>&1); then echo "make bench: left out, the enclave in QEMU: $${why#setup: }"; \
		else $(MAKE) --no-print-directory nitro-setup && $(GO) run ./test/nitro/bench -bin bin; fi

# Golden vectors, made again by the real modules.
vectors:
	@scripts/vectors

FUZZTIME ?= 30s
fuzz:
	@for pkg in $$($(GO) list $(PACKAGES)); do \
		for f in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz'); do \
			echo "== $$pkg $$f"; $(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x $$pkg || exit 1; done; done

# Static binaries; the darwin one has the operator's commands, no state. Then the man
# pages, the enclave's kernels and what both measure to (scripts/release). The same commit on
# the same Debian gives the same bytes.
release:
	@scripts/setup can-kernel
	@scripts/release check $(VERSION)
	@mkdir -p dist
	@for os in linux/amd64 linux/arm64 darwin/arm64; do \
		out=dist/privyseal-$(VERSION)-$${os%/*}-$${os#*/}; \
		GOOS=$${os%/*} GOARCH=$${os#*/} $(BUILD) -o $$out ./cmd/privyseal || exit 1; \
		ls -l $$out; done
	@for arch in amd64 arm64; do \
		out=dist/privyseal-enclave-$(VERSION)-linux-$$arch; \
		GOOS=linux GOARCH=$$arch $(BUILD_ENCLAVE) -o $$out ./cmd/privyseal-enclave || exit 1; ls -l $$out; done
	@out=dist/privyseal-sgx-$(VERSION)-linux-amd64; GOOS=linux GOARCH=amd64 $(BUILD_ENCLAVE) -o $$out ./cmd/privyseal-sgx && ls -l $$out
	@$(MAKE) --no-print-directory man
	@scripts/release $(VERSION)

# The man pages, into bin/man.
man:
	@rm -rf bin/man && mkdir -p bin
	@out=$$($(GO) test -count=1 ./cmd/privyseal -run TestMan -man $(CURDIR)/bin/man) || { echo "$$out"; exit 1; }

PREFIX ?= /usr/local
install: all man
	install -D -m 0755 bin/privyseal $(DESTDIR)$(PREFIX)/bin/privyseal
	install -D -m 0755 bin/privyseal-enclave $(DESTDIR)$(PREFIX)/bin/privyseal-enclave
	install -D -m 0755 bin/privyseal-sgx $(DESTDIR)$(PREFIX)/bin/privyseal-sgx
	install -D -m 0644 systemd/privyseal-nitro.service $(DESTDIR)/etc/systemd/system/privyseal-nitro.service
	install -D -m 0644 systemd/privyseal-sgx.service $(DESTDIR)/etc/systemd/system/privyseal-sgx.service
	install -D -m 0644 systemd/privyseal.service $(DESTDIR)/etc/systemd/system/privyseal.service
	install -d $(addprefix $(DESTDIR)$(PREFIX)/share/,man/man1 man/man5 doc/privyseal/alerts doc/privyseal/reference)
	install -m 0644 bin/man/*.1 $(DESTDIR)$(PREFIX)/share/man/man1/
	install -m 0644 bin/man/*.5 $(DESTDIR)$(PREFIX)/share/man/man5/
	install -m 0644 README.md SECURITY.md doc/*.md doc/*.svg $(DESTDIR)$(PREFIX)/share/doc/privyseal/
	install -m 0644 doc/reference/*.md $(DESTDIR)$(PREFIX)/share/doc/privyseal/reference/
	install -m 0644 doc/alerts/*.yml $(DESTDIR)$(PREFIX)/share/doc/privyseal/alerts/

clean:
	rm -rf bin dist
