# Each target installs what it needs first (deploy/setup.sh), on Debian 12 with git, make and rustup.

.DEFAULT_GOAL := help
.PHONY: help demo demo-kafka test power-cuts forward-rounds lint bench bench-forward bench-scale size firmware dist clean

# What is handed to the demo, as in: make demo ARGS="--for 30s --devices 20"
ARGS ?=
# Seconds that each fuzz target runs.
TIME ?= 60

# How many cuts, and the seed of all that is random in them.
CUTS ?= 300
SEED ?= 20261121
# How many rounds of faults between a gateway and its cluster.
ROUNDS ?= 200
# Records of a backlog, and numbers of gateways on one broker.
RECORDS ?= 10000000
SETTINGS ?= 50 200 500

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## Run simulated nodes, a gateway, windows and the page (ARGS="--for 30s")
	@deploy/setup.sh demo
	@cargo build --locked --release --package headwater --bin headwater
	@target/release/headwater demo $(ARGS)

demo-kafka: ## The same with a real Kafka broker upstream
	@deploy/setup.sh demo-kafka
	@cargo build --locked --release --package headwater --bin headwater
	@deploy/demo-kafka.sh $(ARGS)

test: ## Everything that a change has to pass, the whole path included
	@deploy/test.sh

power-cuts: ## Cut the power of a gateway on real file systems, as root (CUTS=3000 SEED=1)
	@deploy/setup.sh power-cuts
	@HEADWATER_CUTS=$(CUTS) HEADWATER_SEED=$(SEED) cargo test --locked --package hw-tests --test it \
		power_cuts:: -- --nocapture

forward-rounds: ## Break gateway, broker and link in turns, under load (ROUNDS=200 SEED=1)
	@deploy/setup.sh forward
	@HEADWATER_ROUNDS=$(ROUNDS) HEADWATER_SEED=$(SEED) cargo test --locked --package hw-tests --test it \
		forward_rounds:: -- --nocapture

lint: ## Formatting, lints and documentation alone
	@deploy/setup.sh lint
	@deploy/test.sh format lints documentation

bench: ## The front door in numbers, each beside mosquitto or what the disk takes
	@deploy/setup.sh bench
	@cargo build --locked --release --package headwater --bins --examples
	@deploy/bench/all.sh

bench-forward: ## Forwarding in numbers, beside Kafka's own producer, and a backlog (RECORDS=10000000)
	@deploy/setup.sh forward
	@cargo build --locked --release --package headwater --bin headwater --example mqtt_load
	@cargo build --locked --release --package hw-tests --example forward_load
	@target/release/examples/forward_load rate
	@HEADWATER_BIN=$(CURDIR)/target/release/headwater target/release/examples/forward_load latency
	@HEADWATER_BIN=$(CURDIR)/target/release/headwater target/release/examples/forward_load latency \
		target/release/examples/mqtt_load
	@HEADWATER_BIN=$(CURDIR)/target/release/headwater target/release/examples/forward_load backlog \
		$(RECORDS) target/release/examples/mqtt_load

bench-scale: ## What gateways cost a cluster (SETTINGS="50 200 500", each GATEWAYS[:EVERY_MS[:RECORDS]])
	@deploy/setup.sh forward
	@cargo run --locked --release --package hw-tests --example forward_load -- scale $(SETTINGS)

fuzz: ## Fuzz every decoder, and runs of operations (TIME=600, seconds each)
	@deploy/setup.sh fuzz
	@deploy/fuzz.sh -t $(TIME) -j 2

firmware: ## The boards' images, in build/firmware
	@deploy/setup.sh firmware
	@firmware/build.sh

size: ## What the boards' images take, against their budget
	@deploy/setup.sh firmware
	@firmware/size.sh

dist: ## Static binaries and Debian packages for aarch64 and x86_64, in dist
	@deploy/setup.sh dist
	@deploy/dist.sh

clean: ## Delete what was built and installed here
	rm -rf target firmware/boards/target build dist
