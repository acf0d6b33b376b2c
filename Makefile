# What to do with Onggi. `make run` and `make test` need a Debian 12 with a Rust toolchain and nothing done by hand.
#
#   make run       see a container run
#   make test      every test: plain, as root, in a virtual machine
#   make stress    ten thousand containers, a hundred at once: what is left?
#   make bench     how fast it is, beside crun and runc
#   make check     format, lints, unit tests: a minute, no root
#   make fuzz      every fuzz target for ten minutes; FUZZ_SECONDS=3600 FUZZ=config for one and an hour
#   make test-kernels, reproducible, deny: other kernels, two builds and one hash, the crates
#   make order     which functions commands run, for the linker
#   make install   PREFIX=/usr/local SYSCONFDIR=/etc DESTDIR=

PREFIX  ?= /usr/local
# Where engines look for their configuration, whatever the prefix is.
SYSCONFDIR ?= /etc
DESTDIR ?=
CARGO   ?= cargo
COMMIT  := $(shell git describe --always --dirty --abbrev=40 2>/dev/null)

TARGET   = $(or $(CARGO_TARGET_DIR),target)
BIN      = $(TARGET)/release/onggi
BUNDLE   = $(TARGET)/hello
SUDO    := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
SHARE    = $(DESTDIR)$(PREFIX)/share
# /usr/share/zsh/vendor-completions for a Debian package.
ZSH      = $(SHARE)/zsh/site-functions
PAGES    = $(wildcard man/*.8)
ETC      = $(DESTDIR)$(SYSCONFDIR)
EXAMPLES = $(SHARE)/doc/onggi/examples
# Each file that engines read, and its place.
CONTRIB  = contrib/containers/onggi.conf:$(ETC)/containers/containers.conf.d/onggi.conf \
	contrib/containerd/onggi.toml:$(ETC)/containerd/conf.d/onggi.toml \
	contrib/crio/10-onggi.conf:$(ETC)/crio/crio.conf.d/10-onggi.conf \
	contrib/containerd/onggi-1.7.toml:$(EXAMPLES)/onggi-1.7.toml \
	contrib/docker/daemon.json:$(EXAMPLES)/daemon.json \
	contrib/kubernetes/runtimeclass.yaml:$(EXAMPLES)/runtimeclass.yaml
# An AppArmor older than 4 cannot read the profile, and has no need of it. APPARMOR=yes for a package.
APPARMOR ?= $(if $(wildcard /etc/apparmor.d/abi/4.0),yes)
ifeq ($(APPARMOR),yes)
CONTRIB += contrib/apparmor/onggi:$(ETC)/apparmor.d/onggi
endif
# make bench BENCH="--rounds 300 --realtime onggi=target/release/onggi crun other=/path/to/a/runtime"
BENCH   ?=
ROOT_TESTS = --test integration --test parent --test cgroup_unit
ENGINES  = --test engines
# Only the tests are root then, not the build.
RUNNER   = CARGO_TARGET_$(shell echo $(HOST) | tr a-z- A-Z_)_RUNNER
HOST     = $(shell $(CARGO) -vV 2>/dev/null | sed -n 's/^host: //p')

.DEFAULT_GOAL := release
.PHONY: run test lint check release stress bench bench-record work install uninstall test-vm test-root test-budget \
	test-engines test-engines-quick man clean tools test-tools release-musl sweeps release-of-what-is-there test-kernels fuzz \
	fuzz-quick fuzz-tools reproducible deny guards order

# What the build, and the greeting, need from the system: a linker, and a program to run.
tools:
	@need=; \
	command -v cc >/dev/null || need="$$need gcc libc6-dev"; \
	box=$$(command -v busybox) && ! ldd "$$box" >/dev/null 2>&1 || need="$$need busybox-static"; \
	$(apt-install)

# What the tests need besides: the library that our filters are compared with, network devices, subordinate ids, what counts
# instructions, CRIU and the program that keeps packets from what it saves.
test-tools: tools
	@need=; \
	[ -e /usr/include/seccomp.h ] || need="$$need libseccomp-dev"; \
	command -v ip >/dev/null || need="$$need iproute2"; \
	command -v strace >/dev/null || need="$$need strace"; \
	command -v newuidmap >/dev/null || need="$$need uidmap"; \
	command -v criu >/dev/null || need="$$need criu"; \
	command -v valgrind >/dev/null || need="$$need valgrind"; \
	command -v iptables-restore >/dev/null || need="$$need iptables"; \
	$(apt-install)

# Installs $$need, or says how.
define apt-install
if [ -n "$$need" ]; then \
	if command -v apt-get >/dev/null; then \
		$(SUDO) apt-get update -q && $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends $$need; \
	else \
		echo "please install:$$need" >&2; exit 1; \
	fi; \
fi
endef

# Where crates lie is written into what is compiled of them. The same binary comes of every directory without it.
REGISTRY = $(or $(CARGO_HOME),$(HOME)/.cargo)/registry/src
# The same for every build of the release profile, or each would begin anew.
FLAGS    = target.$(HOST).rustflags = [$(REMAP)]
REMAP    = $(foreach dir,$(wildcard $(REGISTRY)/*),"--remap-path-prefix=$(dir)=/crates"$(comma)) "--remap-path-prefix=$(CURDIR)=/onggi"
comma   := ,

# A linker leaves its file in the page cache in small pieces, a copy lies there in large ones: every command starts sooner by
# 0.03 to 0.1 ms, as it does once it is installed.
settle   = cp $(1) $(2).copy && mv $(2).copy $(2)

# One static file. Cargo puts it under the name of the host; it is wanted where everybody looks.
release: tools
	@$(CARGO) fetch --locked --quiet
	@$(MAKE) --no-print-directory release-of-what-is-there

release-of-what-is-there:
	ONGGI_COMMIT="$(COMMIT)" $(CARGO) build --release --locked --config '$(FLAGS)'
	@mkdir -p $(TARGET)/release
	@$(call settle,$(TARGET)/$(HOST)/release/onggi,$(BIN))

# The same with musl, whose start-up is shorter. A toolchain without that target builds its standard library from source, if
# it has that: no stable toolchain is meant to, hence the variable.
MUSL     = $(shell uname -m)-unknown-linux-musl
SYSROOT  = $(shell rustc --print sysroot 2>/dev/null)
release-musl: tools
	@std=; \
	if [ ! -e "$(SYSROOT)/lib/rustlib/$(MUSL)/lib" ]; then \
		if [ -e "$(SYSROOT)/lib/rustlib/src/rust/library/Cargo.lock" ]; then \
			std="-Zbuild-std=std,panic_abort"; export RUSTC_BOOTSTRAP=1; \
			[ -n "$$CARGO_TARGET_$$(echo $(MUSL) | tr a-z- A-Z_)_LINKER" ] || ! command -v musl-gcc >/dev/null || \
				export CARGO_TARGET_$$(echo $(MUSL) | tr a-z- A-Z_)_LINKER=musl-gcc; \
		else \
			echo "no standard library for $(MUSL): rustup target add $(MUSL), or rustup component add rust-src" >&2; exit 1; \
		fi; \
	fi; \
	ONGGI_COMMIT="$(COMMIT)" $(CARGO) build --release --locked --bin onggi --target $(MUSL) $$std
	@$(call settle,$(TARGET)/$(MUSL)/release/onggi,$(TARGET)/$(MUSL)/release/onggi)
	@echo "built $(TARGET)/$(MUSL)/release/onggi; make install BIN=$(TARGET)/$(MUSL)/release/onggi"

run: release
	@rm -rf $(BUNDLE)
	@mkdir -p $(BUNDLE)/rootfs/bin
	@cp "$$(command -v busybox)" $(BUNDLE)/rootfs/bin/busybox
	@for name in sh echo uname id ps hostname; do ln -s busybox $(BUNDLE)/rootfs/bin/$$name; done
	@$(BIN) spec -b $(BUNDLE) $$([ "$$(id -u)" = 0 ] || echo --rootless)
	@sed -i -e 's/"terminal": true/"terminal": false/' \
		-e 's|"sh"$$|"sh", "-c", "echo \\"Hello from a container made by Onggi: pid $$$$, $$(id), on $$(uname -sr)\\""|' $(BUNDLE)/config.json
	@[ "$$(id -u)" = 0 ] || echo "not root: the container gets a user namespace (sudo make run for one without)"
	@$(BIN) run -b $(BUNDLE) hello-$$$$

# The tests that need root are no targets of a plain cargo command, and are named; the fuzz targets are a crate of their own.
lint: test-tools fuzz-tools
	$(CARGO) fmt --all --check
	$(CARGO) clippy --all-targets --locked -- -D warnings
	$(CARGO) clippy $(ROOT_TESTS) $(ENGINES) --test bench --locked -- -D warnings
	$(CARGO) clippy --features work --bin onggi-work --locked -- -D warnings
	$(CARGO) clippy --manifest-path tests/fuzz/Cargo.toml --target-dir target/fuzz/lint -- -D warnings

check:
	$(MAKE) lint
	$(CARGO) test --locked --lib --bins

# The tests in integration/ skip nothing: they need root, and Cargo.toml keeps them out of the plain `cargo test`. The
# virtual machine is put together as root too.
test: test-tools
	$(CARGO) build --locked
	$(CARGO) test --locked
	$(MAKE) fuzz-quick
	$(MAKE) test-root
	$(MAKE) test-budget
	$(MAKE) test-engines-quick
	$(MAKE) test-vm

test-root: test-tools
	@[ -z "$(SUDO)" ] || echo "the tests in integration/ need root: sudo may ask for your password"
	$(if $(SUDO),$(RUNNER)="sudo -E" )$(CARGO) test --locked $(ROOT_TESTS)

# Every system call of every command killed, failed, with the ground moved under it or another command beside it: an hour or two. `make test` tries some of
# the points. The table goes to target/sweeps.md. SWEEPS=faults::swapped for a part.
SWEEPS ?= faults::
sweeps: test-tools
	$(if $(SUDO),$(RUNNER)="sudo -E" )FAULT_STEP=1 $(CARGO) test --locked --test integration -- $(SWEEPS)

# What the release build costs: test-root has counted for a debug build. Then whether `make bench` works at all.
test-budget: test-tools release work
	RUNTIME="$(abspath $(BIN))" $(if $(SUDO),$(RUNNER)="sudo -E" )$(CARGO) test --locked --test integration -- budget::
	$(if $(SUDO),$(RUNNER)="sudo -E" )$(CARGO) test --locked --test bench -- --rounds 1 --bursts 1 --many 3 --containers 5 \
		--mounts 50 --out target/bench-try $(abspath $(BIN)) >/dev/null

# containerd, Docker, Podman and Buildah at work with Onggi: natively, then in the virtual machine with both cgroup drivers.
test-engines: test-tools
	$(if $(SUDO),$(RUNNER)="sudo -E" )$(CARGO) test --locked $(ENGINES)
	integration/engines/run
	ONGGI_CGROUPS=systemd integration/engines/run

# A minute and a half of that.
test-engines-quick: test-tools
	$(if $(SUDO),$(RUNNER)="sudo -E" )ONGGI_ENGINES=quick $(CARGO) test --locked $(ENGINES)

test-vm: release
	integration/vm/run
	integration/vm/run -s

# The parent's work alone: a program for `make bench` and the budgets, of the release profile.
work: tools
	$(CARGO) build --release --locked --features work --bin onggi-work --config '$(FLAGS)'
	@mkdir -p $(TARGET)/release
	@ln -f $(TARGET)/$(HOST)/release/onggi-work $(TARGET)/release/onggi-work

# As root, some nine minutes. Other runtimes are those in PATH; the tables and a plot go to target/bench.
bench: release work
	$(if $(SUDO),$(RUNNER)="sudo -E" )$(CARGO) test --locked --test bench -- $(BENCH)

# Which functions commands run, for the linker: order.ld, as root. Anew when it has grown old: `budget::memory` counts what it
# saves. Of the build with musl too, where that target is at hand.
ORDER = $(TARGET)/order
order: tools
	@mkdir -p $(ORDER)
	@rm -f $(ORDER)/onggi-*
	for target in $(HOST) $(if $(wildcard $(SYSROOT)/lib/rustlib/$(MUSL)/lib),$(MUSL)); do \
		CARGO_TARGET_DIR=$(ORDER) $(CARGO) rustc --release --locked --bin onggi --target $$target --config 'profile.release.strip=false' -- \
			-C link-arg=-Wl,-Map=$(abspath $(ORDER))/onggi-$$target.map && \
		cp $(ORDER)/$$target/release/onggi $(ORDER)/onggi-$$target || exit 1; \
	done
	$(if $(SUDO),$(RUNNER)="sudo -E" )$(CARGO) test --locked --test bench -- --order order.ld \
		$$(ls $(abspath $(ORDER))/onggi-*.map | sed 's/\.map$$//')

# Two builds, one hash.
reproducible: tools
	.ci/reproducible

# Every target for FUZZ_SECONDS, as many at once as there are processors: 70 minutes on two. What it finds is in target/fuzz.
FUZZ_SECONDS ?= 600
FUZZ ?=
fuzz: fuzz-tools
	nice tests/fuzz/run $(FUZZ_SECONDS) $(FUZZ)

# What the tests have time for.
fuzz-quick: fuzz-tools
	tests/fuzz/run 10

fuzz-tools: tools
	@need=; command -v c++ >/dev/null || need="$$need g++"; $(apt-install)

# Licences, sources and duplicates of the crates; with ADVISORIES=yes known faults too, for which it needs github.com.
deny:
	command -v cargo-deny >/dev/null || $(CARGO) install --locked cargo-deny
	$(CARGO) deny --config .ci/deny.toml check $(if $(ADVISORIES),advisories) bans licenses sources

# Tests in the virtual machine on the oldest and the newest kernel of Debian that there is; `test-vm` has the one in between.
# Left out: sweeps, figures and CRIU, which take long there or are of one kernel.
OTHER_KERNELS = 6.1 newest
SLOW = --skip faults:: --skip checkpoint:: --skip budget:: --skip bundles:: --skip contract:: --skip converge::
test-kernels: release
	for kernel in $(OTHER_KERNELS); do TIMEOUT=3600 integration/vm/run -k $$kernel $(SLOW) || exit 1; done

# What `make test` samples, in full, with the release build: ten minutes on two processors.
stress: release
	$(if $(SUDO),$(RUNNER)="sudo -E" )ONGGI_STRESS=full RUNTIME=$(abspath $(BIN)) $(CARGO) test --locked --test integration -- stress:: --test-threads 1

# Puts the figures of this machine into BENCH.md.
bench-record: bench
	sed -i '/^<!-- make bench-record /q' BENCH.md
	{ echo; echo '![medians](integration/bench/bench.svg)'; echo; cat target/bench/bench.md; } | cat -s >>BENCH.md
	cp target/bench/bench.svg integration/bench/bench.svg

man:
	$(CARGO) run --quiet --locked --example man -- man

install:
	@[ -x $(BIN) ] || { echo "$(BIN) is not there: make release first" >&2; exit 1; }
	install -D -m 0755 $(BIN) $(DESTDIR)$(PREFIX)/bin/onggi
	install -d $(SHARE)/man/man8
	install -m 0644 $(PAGES) $(SHARE)/man/man8/
	install -D -m 0644 man/onggi-engines.7 $(SHARE)/man/man7/onggi-engines.7
	sed -i 's|/usr/local/|$(PREFIX)/|g' $(SHARE)/man/man7/onggi-engines.7
	install -D -m 0644 man/completions/onggi.bash $(SHARE)/bash-completion/completions/onggi
	install -D -m 0644 man/completions/_onggi $(ZSH)/_onggi
	install -D -m 0644 man/completions/onggi.fish $(SHARE)/fish/vendor_completions.d/onggi.fish

	@for pair in $(CONTRIB); do \
		file=$${pair#*:}; \
		install -D -m 0644 "$${pair%%:*}" "$$file" && sed -i 's|/usr/local/bin/|$(PREFIX)/bin/|' "$$file" || exit 1; \
		echo "installed $$file"; \
	done

uninstall:
	rm -f $(DESTDIR)$(PREFIX)/bin/onggi $(SHARE)/bash-completion/completions/onggi $(SHARE)/man/man7/onggi-engines.7
	rm -f $(foreach pair,$(CONTRIB),$(lastword $(subst :, ,$(pair))))
	rm -f $(ZSH)/_onggi $(SHARE)/fish/vendor_completions.d/onggi.fish
	rm -f $(addprefix $(SHARE)/man/man8/,$(notdir $(PAGES)))

clean:
	$(CARGO) clean

# Takes out one guard after another and wants the tests of published faults to fail (integration/advisories/guards.tsv). An hour.
# make guards GUARD=sec_12 takes a part of them.
guards: test-tools
	integration/advisories/guards $(GUARD)
