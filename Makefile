# The commands of this project; `make help` lists them. ARGS goes to the program: make run ARGS="--source file:clip.mp4"
SHELL := bash
export PATH := $(PATH):$(HOME)/.cargo/bin
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help run test test-device fault-campaign arm64 test-arm64 fuzz train bench measure architectures people pictures peers lint format clippy docs licences edge clean

ARGS ?=
TORCH = LIBTORCH=$$(.ci/libtorch); export LIBTORCH LD_LIBRARY_PATH="$$LIBTORCH/lib$${LD_LIBRARY_PATH:+:$$LD_LIBRARY_PATH}";
# Without a desktop and a screen: 20 seconds of the camera, or else of the mannequin, into a video, with event lines on the
# terminal.
HEADLESS = --display video:out/kinora.mp4 --events - --duration 20

help: ## list the commands
	@sed -n 's/^\([a-z0-9-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 24

run: ## install what is missing, build, and run kinora with ARGS
	@.ci/setup run
	cargo build --release
ifneq ($(strip $(ARGS)),)
	@cargo run --release --quiet -- $(ARGS)
else
	@if [ -n "$${DISPLAY:-}$${WAYLAND_DISPLAY:-}" ] || grep -qxs connected /sys/class/drm/*/status; then \
	exec cargo run --release --quiet; fi; \
	mkdir -p out; rm -f out/kinora.mp4; echo "no desktop and no screen: kinora $(HEADLESS)" >&2; \
	cargo run --release --quiet -- $(HEADLESS); \
	echo "video: $$PWD/out/kinora.mp4" >&2
endif

test: ## install what is missing and run all tests, those of the trainer too
	@.ci/setup test
	$(TORCH) cargo test --features train,nokhwa $(ARGS)

# The release build: it is what boards run, and its figures are printed.
DEVICE = cargo test --release --features device-tests --test device --
test-device: ## install what is missing and run the tests with virtual cameras and a virtual display
	@.ci/setup device
	$(DEVICE) --nocapture --test-threads 1 $(ARGS)

fault-campaign: ## 100 faults of random kinds in one run; FAULTS=1000 for more, SEED=N for the same ones again
	@.ci/setup device
	$(DEVICE) --nocapture --ignored fault_campaign

# Tests use the release build, too, so dependencies are compiled once. They run on a processor that has all instructions, so
# they see every kernel (.ci/arm64); the program on one of older boards, so it must find those that it may use.
ARM64 = $${CARGO_TARGET_DIR:-target}/aarch64-unknown-linux-gnu/release/kinora
ARM64_TESTS = engine:: model:: preprocess:: resize:: window:: frame:: capture::pixels:: capture::transform:: \
	capture::v4l:: display::scale:: display::kms:: overlay:: synth:: decision:: events::
arm64: ## install what is missing and build the program for ARM64 boards
	@.ci/setup arm64
	.ci/arm64 cargo build --release
	@glibc=$$(LC_ALL=C readelf -V $(ARM64) | grep -o 'GLIBC_[0-9.]*' | sort -V | tail -n 1); \
	echo "$(ARM64): $$(stat -c %s $(ARM64)) bytes, needs glibc $${glibc#GLIBC_} or newer"

test-arm64: arm64 ## the same, and under emulation run unit tests of what computes and recognize an action
	.ci/arm64 cargo test --release --lib -- $(or $(ARGS),$(ARM64_TESTS))
	.ci/arm64 cargo run --release -- --version
	for run in "--engine tract --hop 16 --frames 122" "--frames 135"; do \
	EMULATED_CPU=cortex-a72 .ci/arm64 cargo run --release -- --source synthetic:1 --display none --events - --no-realtime \
	  $$run | grep '"type":"start".*"label":"jumping_jack"'; done

fuzz: ## install what is missing and run each fuzz target for SECONDS, 600 if not given; ARGS chooses targets
	@.ci/setup fuzz
	.ci/fuzz $(or $(SECONDS),600) $(ARGS)

train: ## build train-export and run it with ARGS (none: its help)
	@.ci/setup test
	$(TORCH) cargo run --release --features train --bin train-export -- $(or $(ARGS),--help)

bench: ## measure; ARGS chooses benchmarks by name
	@.ci/setup run
	cargo bench --bench '*' -- $(ARGS)

# Of a file, so that there is no camera's work in it; decoding is ffmpeg's and not counted.
CLIP ?= out/mannequin-720p.mp4
measure: ## run kinora on a minute of 1280x720 at 30 Hz: the last lines say what that takes of the machine
	@.ci/setup run
	cargo build --release
	@[ -e $(CLIP) ] || { mkdir -p out && cargo run --release --quiet -- --quiet --source 'synthetic:1?size=1280x720&fps=30' \
	  --duration 60 --no-realtime --display video:out/part.mp4 && mv out/part.mp4 $(CLIP); }
	cargo run --release --quiet -- --source $(CLIP) $(ARGS)

# The bundles and the environment of Python are kept in target/peers; PEERS_PYTHON names another one. Nothing else should run
# meanwhile. docs/cost.png is the cost.png of such a run.
PEERS = target/peers
PEERS_PYTHON ?= $(PEERS)/env/bin/python
architectures: ## measure every architecture on one thread; NETS=PATTERN for some, OUT=DIR keeps their models elsewhere
	@.ci/setup test
	$(TORCH) cargo build --release --features train --bins && benches/architectures.sh

people: ## what a model knows of people, and learns of some clips; PEOPLE=DIR, MODEL=DIR, ROWS, CLIPS, SEEDS as in benches/people.sh
	@.ci/setup test
	$(TORCH) cargo build --release --features train --bins && benches/people.sh

pictures: ## draw the README's pictures anew with the shipped model
	@.ci/setup run
	cargo build --release && docs/pictures.sh

peers: ## measure beside OpenVINO and ONNX Runtime; MODELS="edge r18 r3d18", ROWS="windows streams lengths agreement", RUNS=30
	@.ci/setup run
ifeq ($(PEERS_PYTHON),$(PEERS)/env/bin/python)
	@test -x $(PEERS)/env/bin/python || python3 -m venv $(PEERS)/env || \
	{ echo "peers: Python 3 with its module venv is wanted (Debian: apt install python3-venv), or PEERS_PYTHON" >&2; exit 1; }
	@$(PEERS)/env/bin/python -m pip install -q --disable-pip-version-check -r benches/peers/requirements.txt
endif
	@mkdir -p $(PEERS)
	cargo bench --bench peers -- --out $(PEERS) --python $(PEERS_PYTHON) \
	$(if $(RUNS),--runs $(RUNS)) $(if $(MODELS),--models $(MODELS)) $(if $(ROWS),--rows $(ROWS))

lint: format clippy docs licences edge ## all checks but the tests

format: ## the format of the code
	cargo fmt --check

clippy: ## clippy, warnings are errors
	$(TORCH) cargo clippy --all-targets --features train,nokhwa,device-tests -- -D warnings

docs: ## the documentation builds, and its links lead somewhere
	RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" cargo doc --no-deps --lib --document-private-items

licences: ## licences, sources and bans of deny.toml (needs cargo-deny: .ci/setup ci)
	cargo deny --locked check licenses bans sources

edge: ## an edge build does not contain the training framework
	.ci/edge

clean: ## remove what was built
	cargo clean
	rm -rf out
