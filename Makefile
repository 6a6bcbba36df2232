# The test bed's own tasks; `make` lists them.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
WORKERS := -n 3 --dist loadgroup --no-loadscope-reorder

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*##/\1:/p' $(firstword $(MAKEFILE_LIST)) | while IFS=: read -r name what; do \
	    printf '  make %-10s %s\n' "$$name" "$$what"; done

setup: $(READY)  ## install host packages and the Python environment in .venv

# done again only when the lists of what is needed have changed
$(READY): pyproject.toml testbed/host/packages.py
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("setup: Python 3.11 or later is needed: " \
	    "install one with its venv (Ubuntu 22.04: python3.11-venv), and make setup PYTHON=python3.11")'
	@$(PYTHON) testbed/host/packages.py install
	@$(PYTHON) testbed/host/packages.py install firmware || echo "setup: machines with firmware=ovmf are skipped"
	@echo "setup: installing Python packages into $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install -qq --disable-pip-version-check --no-input -e '.[dev]'
	@touch $@

testbed: setup qemu  ## reproduce every documented bug; CASE='NAME ...' only some
	@$(BIN)/testbed run $(or $(CASE),--all) || \
	    { [ $$? -eq 125 ] && echo "testbed: some cells cannot run on this host; the reasons are above"; }

# igb, with its virtual functions, came with QEMU 8.0
qemu: setup
	@$(BIN)/testbed qemu fetch $(addprefix --for-case ,$(or $(CASE),all)) || echo "what needs another QEMU is skipped"

test: setup lint qemu  ## lint, then run the tests but the extended ones
	@$(PYTHON) testbed/host/packages.py install kvm || echo "test: the KVM lane is skipped"
	# guests take turns at two slots; a third worker begins with the unit tests. Those that share a guest are on one
	$(BIN)/pytest -q $(WORKERS) -m "not extended"

test-all: setup lint qemu  ## lint, then run every test: every cell of every case, every scenario
	@$(PYTHON) testbed/host/packages.py install tests || echo "test-all: what needs them is skipped"
	@$(PYTHON) testbed/host/packages.py install kvm || echo "test-all: the KVM lane is skipped"
	$(BIN)/pytest -q $(WORKERS) --hypothesis-profile=deep

test-kvm: setup  ## run the test bed on a host with KVM: this one, or a nested one made for it
	@$(PYTHON) testbed/host/packages.py install kvm
	$(BIN)/pytest -v tests/kvm/test_short.py tests/kvm/lane.py

bench: setup  ## measure how much faster than plain it is; BENCH='--rounds 3 --svg FILE' passes options
	@$(BIN)/pip install -qq --disable-pip-version-check --no-input -e '.[bench]'
	$(BIN)/python -m tests.benchmarks $(BENCH)

bench-check: setup  ## measure again what takes minutes, and fail if a ratio is a fifth worse than the one kept
	$(BIN)/python -m tests.benchmarks --rounds 3 --only commands,verdict,time --against tests/benchmarks/kept.json

docs: setup reference  ## write the reference and build the site into site/, links checked
	@$(BIN)/pip install -qq --disable-pip-version-check --no-input -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

reference: setup  ## write docs/reference/ from the code
	$(BIN)/python -m tools.reference

fuzz: setup  ## give every parser odd input for MINUTES=10, guided by coverage; what is found stays in .fuzz
	@$(BIN)/pip install -qq --disable-pip-version-check --no-input -e '.[fuzz]'
	$(BIN)/python -m tests.faults.fuzz $(or $(MINUTES),10)

orphans: setup  ## end KILLS=100 real runs at random moments, and look for what is left
	$(BIN)/python -m tests.faults.orphans $(or $(KILLS),100)

odd-disks: setup  ## show IMAGES=100 disk images that are damaged at random; those that do harm stay in .odd-disks
	@$(PYTHON) testbed/host/packages.py install tests || echo "odd-disks: those that need them are left out"
	$(BIN)/python -m tests.faults.odd_disks $(or $(IMAGES),100)

soak: setup  ## run all cases in rotation on a busy machine for MINUTES=60, and tell which cell did not always say the same
	$(BIN)/python -m tests.faults.soak $(or $(MINUTES),60)

lint: setup  ## check style, types and imports between rooms
	$(BIN)/ruff check -q
	$(BIN)/ruff format -q --check
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:  ## remove the Python environment
	rm -rf $(VENV)

# what is compiled is kept, whatever the environment says: a test that runs a command would compile the sources again
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help setup qemu testbed test test-all test-kvm bench bench-check docs reference fuzz odd-disks orphans soak lint clean
