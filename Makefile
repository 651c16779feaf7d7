# SPDX-License-Identifier: Apache-2.0

# What make knows only as failure (exit 2) the last line printed tells apart: 0 conformant, 1 not conformant, 2 usage,
# 3 infrastructure; `verdict` in report.json says the same.

SHELL := /bin/bash
.DEFAULT_GOAL := help

GO        ?= go
# One way to build everything, so that nothing is compiled twice; the race detector alone needs cgo.
export CGO_ENABLED = 0
BIN       := bin
# Where reports, logs and other artefacts go.
ARTIFACTS ?= _artifacts
# Where e2e runs: auto (kind where a container engine answers, else controlplane), kind, controlplane or admission.
PROVIDER  ?= auto
# Kubernetes of the control plane; empty is the default: 1.37.2 from source, or kind's own where it can be pulled.
K8S_VERSION ?=
# Image of the kind cluster's nodes; empty is kind's own where it can be pulled, else one that is built from source.
NODE_IMAGE ?=
# FULL=1: every case in the kind cluster, not only a selection in which every combination of three values occurs.
FULL      ?=
# LONG=1: in the kind cluster too the tables that wait for the back-off of controllers, and the proofs that take long: a
# StatefulSet, a CronJob, an injector that is scaled or rescheduled, the node's restart and more.
LONG      ?=
# KEEP=1 leaves the kind cluster running and says how to use it; REUSE=1 takes it again.
KEEP      ?=
REUSE     ?=
# How the control plane's API server reaches the Services of webhooks: clusterip, or endpoints (then it dials one of them
# itself, as with --enable-aggregator-routing); empty is clusterip.
ROUTING   ?=
# Only the tables of this profile; empty is all.
PROFILE   ?=
# Only cases whose ID matches this regular expression; empty is all.
FOCUS     ?=
# More flags for ginkgo: GINKGO_FLAGS="--label-filter='annotation=yes && policy=disabled'"
GINKGO_FLAGS ?=
# Flags for make bench: BENCH_FLAGS="--only injector --pairs 9"
BENCH_FLAGS ?=
# Versions of Kubernetes that make e2e-matrix runs, each in a control plane of its own, built from source the first time.
K8S_VERSIONS ?= 1.36.3 1.37.2
# The kubeconfig's context that make deploy and make undeploy are about: kind-outrigger
CONTEXT   ?=
# The injector's image: the name that make image gives it; for make deploy one in a registry. Empty: a name of its own,
# and make deploy loads it into the nodes of a kind cluster.
IMAGE     ?=
# What make image is for: OS/ARCH.
PLATFORM  ?= linux/amd64
# What make gate compares with, and the cases whose failures it lets pass.
BASELINE   ?= reports/baseline.json.gz
QUARANTINE ?= reports/quarantine.yaml
# The report that make gate and make baseline go by, of a run of the admission lane; empty: they run it. What make test left:
# REPORT=_artifacts/admission/report.json
REPORT     ?=
# Runs of make soak.
N         ?= 20

# A variable as one word for the shell, as it was given: neither make nor the shell makes anything of what is in it.
quoted = '$(subst ','\'',$(value $(1)))'

# The suite in e2e runs by itself; its own tests do not.
UNIT   = $$($(GO) list ./... | grep -v '/e2e$$')
# Lint has vetted it all, dependencies included: race does not once more.
# What is tested in other processes the race detector does not see, be it a browser; and table/cover computes by itself.
RACE   = $$($(GO) list ./... | grep -v -E '/(e2e|ci|cmd/outrigger|bench|mutants|table/cover)$$')
GINKGO := $(GO) tool ginkgo run --fail-on-pending --fail-on-empty --keep-going --poll-progress-after=15m --timeout=2h $(GINKGO_FLAGS)
SUITE   = -- --outrigger.lane=$(1) --outrigger.profile=$(call quoted,PROFILE) --outrigger.focus=$(call quoted,FOCUS) \
          --outrigger.k8s-version=$(call quoted,K8S_VERSION) --outrigger.injector=$(CURDIR)/$(BIN)/injector --outrigger.artifacts=$(2) --outrigger.routing=$(call quoted,ROUTING) \
          --outrigger.tap=$(CURDIR)/$(BIN)/outrigger-tap --outrigger.kind-config=$(CURDIR)/kind-config.yaml --outrigger.node-image=$(call quoted,NODE_IMAGE) \
          $(if $(FULL),--outrigger.full) $(if $(LONG),--outrigger.long) $(if $(KEEP),--outrigger.keep) $(if $(REUSE),--outrigger.reuse)

# What a run leaves in a folder; what an earlier one left must not pass for this one's.
REPORTS = $(foreach name,report.json report.html report.md report.txt junit.xml,$(1)/$(name))

# The run that make gate and make baseline are about. What it found, they say; why it found nothing, its last line does.
GATE_RUN = mkdir -p $(ARTIFACTS)/gate && if test -n $(call quoted,REPORT); then cp -f -- $(call quoted,REPORT) $(ARTIFACTS)/gate/report.json || exit 3; exit 0; fi; said=$$($(BIN)/outrigger run --quiet --artifacts $(ARTIFACTS)/gate); code=$$?; \
  test $$code -le 1 || { printf '%s\n' "$$said" | tail -n 1; exit $$code; }

.PHONY: help
help: ## Show this help
	@awk 'BEGIN {FS = ":.*## "; print "Usage: make TARGET [VARIABLE=value]\n"} \
	  /^[a-z0-9-]+:.*## / {printf "  \033[1m%-12s\033[0m %s\n", $$1, $$2} \
	  /^# / && !/SPDX/ {doc = doc " " substr($$0, 3); next} \
	  /^[A-Z0-9_]+ +\?=/ {split($$0, v, /[ ?=]+/); if (doc != "") vars = vars sprintf("  %-12s%s\n", v[1], doc); doc = ""; next} \
	  {doc = ""} END {printf "\nVariables:\n%s", vars}' $(MAKEFILE_LIST)

.PHONY: bin
bin: ## Build outrigger, its tap for clusters and the reference injector into bin/
	@mkdir -p $(BIN)
	$(GO) build -o $(BIN)/ ./cmd/outrigger ./cmd/outrigger-tap ./injector/cmd/injector

.PHONY: e2e
e2e: bin ## Run every table on a real API server, as a Ginkgo suite
	@lane=$$($(BIN)/outrigger provider $(call quoted,PROVIDER)) && \
	  $(BIN)/outrigger list --lane $$lane --profile $(call quoted,PROFILE) --focus $(call quoted,FOCUS) --k8s-version $(call quoted,K8S_VERSION) $(if $(LONG),--long) $(if $(FULL),--full) >/dev/null && \
	  mkdir -p $(ARTIFACTS) && rm -f $(call REPORTS,$(ARTIFACTS)) && \
	  { $(GINKGO) ./e2e $(call SUITE,$$lane,$(abspath $(ARTIFACTS))); suite=$$?; } && \
	  $(BIN)/outrigger verdict $(ARTIFACTS)/report.json && \
	  { test $$suite -eq 0 || { echo 'verdict: infrastructure (exit 3): every case held, and yet the suite failed: see above'; exit 3; }; }

.PHONY: e2e-matrix
e2e-matrix: bin ## Run every table on each version of K8S_VERSIONS; one report, a column for each
	@test -n '$(strip $(K8S_VERSIONS))' || { echo 'e2e-matrix: name at least one version: K8S_VERSIONS="1.36.3 1.37.2"'; exit 2; }
	@mkdir -p $(ARTIFACTS) && rm -f $(foreach folder,$(ARTIFACTS) $(foreach v,$(K8S_VERSIONS),$(ARTIFACTS)/$(v)),$(call REPORTS,$(folder)))
	@for v in $(K8S_VERSIONS); do printf '\n--- Kubernetes %s\n' $$v; \
	  $(MAKE) --no-print-directory e2e PROVIDER=controlplane K8S_VERSION=$$v ARTIFACTS=$(ARTIFACTS)/$$v; code=$$?; \
  test -e $(ARTIFACTS)/$$v/report.json || $(BIN)/outrigger lost --lane controlplane --k8s-version $$v --artifacts $(ARTIFACTS)/$$v \
    --because "make e2e left no report (exit $$code); what it printed says why" || exit; done
	@$(BIN)/outrigger merge --artifacts $(ARTIFACTS) $(foreach v,$(K8S_VERSIONS),$(ARTIFACTS)/$(v)/report.json)
	@cat $(ARTIFACTS)/report.txt && $(BIN)/outrigger verdict $(ARTIFACTS)/report.json

.PHONY: gate
gate: bin ## Run the admission lane and compare with the baseline: fail if a case is worse, or gone
	@$(GATE_RUN)
	@$(BIN)/outrigger render --format html --baseline $(BASELINE) --out $(ARTIFACTS)/gate/report.html $(ARTIFACTS)/gate/report.json
	@$(BIN)/outrigger compare --quarantine $(QUARANTINE) $(BASELINE) $(ARTIFACTS)/gate/report.json || { code=$$?; \
	  echo 'gate: if this change is meant, `make baseline` renews $(BASELINE)'; exit $$code; }

.PHONY: agree
agree: bin ## Compare what make test and make e2e left: both lanes must have seen the same
	@$(BIN)/outrigger agree $(ARTIFACTS)/admission/report.json $(ARTIFACTS)/report.json

.PHONY: agree-kind
agree-kind: bin ## Compare what make e2e left in both lanes, kind's in its folder kind: they must have seen the same
	@$(BIN)/outrigger agree $(ARTIFACTS)/report.json $(ARTIFACTS)/kind/report.json

.PHONY: baseline
baseline: bin ## Renew what make gate compares with, and print the change for the commit message
	@$(GATE_RUN)
	@$(BIN)/outrigger merge --baseline --out $(ARTIFACTS)/gate/baseline.json.gz $(ARTIFACTS)/gate/report.json
	@if test -e $(BASELINE); then $(BIN)/outrigger compare --format markdown $(BASELINE) $(ARTIFACTS)/gate/baseline.json.gz; \
	  code=$$?; test $$code -ne 3 -a $$code -ne 2 || exit $$code; fi
	@mkdir -p $(dir $(BASELINE)) && mv $(ARTIFACTS)/gate/baseline.json.gz $(BASELINE) && echo 'renewed $(BASELINE)'

.PHONY: test
test: unit ## Unit tests, then every table in the admission lane
	@$(MAKE) --no-print-directory e2e PROVIDER=admission ARTIFACTS=$(ARTIFACTS)/admission

.PHONY: unit
unit: bin ## Unit tests alone
	$(GO) test $(UNIT)
	$(GO) test -skip='^TestE2E$$' ./e2e

.PHONY: image
image: bin ## Write the reference injector's image to bin/injector.tar; one source, one digest
	@mkdir -p $(BIN)/image
	GOOS=$(word 1,$(subst /, ,$(PLATFORM))) GOARCH=$(word 2,$(subst /, ,$(PLATFORM))) \
	  $(GO) build -trimpath -buildvcs=false -ldflags='-s -w' -o $(BIN)/image/injector ./injector/cmd/injector
	@$(BIN)/outrigger injector image --program $(BIN)/image/injector --platform $(call quoted,PLATFORM) --image $(call quoted,IMAGE) --out $(BIN)/injector.tar

.PHONY: deploy
deploy: bin ## Install the reference injector in the cluster of CONTEXT
	@$(BIN)/outrigger injector install --context $(call quoted,CONTEXT) --image $(call quoted,IMAGE)

.PHONY: undeploy
undeploy: bin ## Take it away again, webhook configurations first
	@$(BIN)/outrigger injector uninstall --context $(call quoted,CONTEXT)

.PHONY: test-lanes
test-lanes: ## Tests of the controlplane lane, of the injector's life in a cluster and of interrupted runs, on a real control plane
	OUTRIGGER_CONTROLPLANE=1 $(GO) test -count=1 ./lane/controlplane/... ./injector/deploy ./injector/cluster ./cmd/outrigger
	OUTRIGGER_CONTROLPLANE=1 $(GO) test -count=1 -run='TestIndexedJobIsTaken|TestVersionsAreThoseOfKubernetes' ./ci ./lane/source

.PHONY: test-kind
test-kind: bin ## Tests of the kind lane itself, in clusters of their own
	OUTRIGGER_KIND=1 $(GO) test -count=1 -timeout=40m ./lane/kind/...
	OUTRIGGER_KIND=1 $(GO) test -count=1 -timeout=40m -run=TestIndexedJobInKind ./ci

.PHONY: test-engine
test-engine: ## Test of hack/container-engine.sh, in namespaces of its own; needs root, and Debian's docker.io
	OUTRIGGER_ENGINE=1 $(GO) test -count=1 ./hack

.PHONY: race
race: bin ## Unit tests under the race detector
	CGO_ENABLED=1 $(GO) test -race -vet=off -skip='^TestPage' $(RACE)

.PHONY: mutants
mutants: bin ## Prove that the suite notices: every mutant must be killed
	$(BIN)/outrigger mutants

.PHONY: soak
soak: bin ## Run the admission lane N times: the verdicts must be alike
	$(BIN)/outrigger soak --runs $(N)

.PHONY: bench
bench: bin ## Measure against the bars
	$(GO) build -o $(BIN)/bench ./bench && $(BIN)/bench $(BENCH_FLAGS)
	$(if $(findstring --only,$(BENCH_FLAGS)),,$(MAKE) bench-report)

.PHONY: bench-report
bench-report: ## Measure a report of 100,000 results, and its page in a browser, against the bars
	OUTRIGGER_BARS=1 OUTRIGGER_BROWSER=1 $(GO) test ./report -count=1 -v -run 'AHundredThousand'

.PHONY: node-image
node-image: bin ## Build the image of a kind cluster's nodes for K8S_VERSION, without a registry, and print its name
	@$(BIN)/outrigger node-image --k8s-version $(call quoted,K8S_VERSION)

.PHONY: generate
generate: ## Renew the JSON Schemas
	$(GO) test ./table ./report ./target ./mutants -run Schema -update

.PHONY: lint
lint: ## go vet, staticcheck, gofmt
	$(GO) vet ./...
	$(GO) run honnef.co/go/tools/cmd/staticcheck@v0.8.2 ./...
	@test -z "$$(gofmt -l .)" || { echo "gofmt would change:"; gofmt -l .; exit 1; }

.PHONY: lint-ci
lint-ci: ## Check the workflows with actionlint
	$(GO) run github.com/rhysd/actionlint/cmd/actionlint@v1.7.12 .github/workflows/*.yaml ci/github-workflow.yaml

.PHONY: fmt
fmt: ## Format the code
	gofmt -w .

.PHONY: clean
clean: ## Remove what was built here, not the user's cache
	rm -rf $(BIN) $(ARTIFACTS)
