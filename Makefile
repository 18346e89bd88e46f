# Everything here works on a fresh machine with python3, gcc and make: the environment is made on the way.
PYTHON ?= python3
VENV   ?= .venv
SOURCES := $(wildcard csrc/*.c csrc/*.h csrc/*.def) setup.py pyproject.toml darknetpy/_build_ffi.py
BIN    := $(VENV)/bin
.DEFAULT_GOAL := help
comma := ,
.PHONY: help build train test gradcheck golden lint sanitize coverage bench cuda cuda-emulated cuda-resources clean python-ready \
        test-gpu bench-gpu device-ready device-built

help:       ## this list
	@sed -n 's/^\([a-z-]*\): .*## /  make \1|/p' $(MAKEFILE_LIST) | column -t -s '|'

build: $(VENV)/built            ## make the environment in .venv and build the package into it
train: $(VENV)/built            ## build, then train the default network on the embedded Fashion-MNIST images
	$(BIN)/darknetpy classifier train fashion-mnist: cfg/fashion-mnist.cfg
test: $(VENV)/tested            ## build, then run the tests
	$(BIN)/python -m pytest
gradcheck: $(VENV)/tested       ## every gradient of every layer on a float64 build; the last lines say each type's largest relative error
	DARKNETPY_FIGURES=1 $(BIN)/python -m pytest -q -k test_gradient
golden: $(VENV)/tested          ## outputs, deltas and updates beside recordings of Darknet; the last lines say how they agree
	DARKNETPY_FIGURES=1 $(BIN)/python -m pytest -q tests/test_golden.py

# What Debian's python3 lacks for building is installed with apt-get by root, and named to everybody else.
python-ready:
	@missing=""; \
	$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || missing="python3-venv"; \
	$(PYTHON) -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' \
	    || missing="$$missing python3-dev"; \
	if [ -n "$$missing" ] && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $$missing; \
	elif [ -n "$$missing" ]; then \
	    echo "$(PYTHON) cannot build packages here; run this first:  sudo apt-get install $$missing" >&2; exit 1; \
	fi

$(BIN)/python: | python-ready
	$(PYTHON) -m venv $(VENV)
$(VENV)/built: $(SOURCES) | $(BIN)/python
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[plot]'
	@touch $@
$(VENV)/tested: $(VENV)/built
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[plot,test]'
	@touch $@

lint: $(VENV)/built             ## warnings as errors: the C compiler's, and ruff's for Python
	@for file in csrc/*.c; do $(CC) -std=gnu11 -fopenmp -fsyntax-only -Wall -Wextra -Werror $$file || exit 1; done
	@command -v $(CXX) >/dev/null || exit 0; for file in cuda/*.cu cuda/*.cpp; do \
	    $(CXX) -x c++ -std=c++17 -Icuda -Icsrc -fsyntax-only -Wall -Wextra -Wno-unknown-pragmas -Werror $$file || exit 1; done
	@$(BIN)/python -m pip install -q --disable-pip-version-check ruff
	$(BIN)/ruff check setup.py darknetpy cuda tests

# The core with the address and undefined-behaviour sanitizers, its asserts on, under the same tests.
REPORT := $(CURDIR)/build/sanitize/report
SANITIZE := -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -g -O1 -UNDEBUG
sanitize: $(VENV)/tested        ## run the tests on a core built with the address and undefined-behaviour sanitizers
	@$(BIN)/python -m pip install -q --disable-pip-version-check 'setuptools>=77'
	DARKNETPY_CFLAGS="$(SANITIZE)" $(BIN)/python setup.py -q build --build-base build/sanitize --build-lib build/sanitize/lib
	LD_PRELOAD="$$($(CC) -print-file-name=libasan.so) $$($(CC) -print-file-name=libubsan.so)" \
	ASAN_OPTIONS=detect_leaks=0:log_path=$(REPORT) UBSAN_OPTIONS=print_stacktrace=1:log_path=$(REPORT) OMP_NUM_THREADS=2 \
	DARKNETPY_SANITIZED=1 PYTHONPATH=build/sanitize/lib $(BIN)/pytest -p no:cacheprovider || { cat $(REPORT).* 2>/dev/null; exit 1; }

coverage: $(VENV)/tested        ## run the tests on a core that counts lines; report those of csrc
	@$(BIN)/python -m pip install -q --disable-pip-version-check gcovr 'setuptools>=77'
	DARKNETPY_CFLAGS="--coverage -O0 -UNDEBUG -DONE_VERSION" $(BIN)/python setup.py -q build --build-base build/coverage --build-lib build/coverage/lib
	PYTHONPATH=build/coverage/lib $(BIN)/pytest -q -p no:cacheprovider
	$(BIN)/gcovr --root . --filter csrc/ build/coverage

bench: $(VENV)/built            ## time training steps beside the peers that are installed
	$(BIN)/darknetpy bench network cfg/fashion-mnist.cfg --train

cuda: $(VENV)/built             ## build the CUDA kernels with nvcc, for all architectures or CUDA_ARCHS="90 120"
	$(BIN)/python cuda/build.py
cuda-emulated: $(VENV)/built    ## build the CUDA kernels with g++, to run on the CPU
	$(BIN)/python cuda/build.py --emulated
cuda-resources: $(VENV)/built   ## registers and spills of every CUDA kernel, as nvcc reports them for sm_90
	$(BIN)/python cuda/build.py --resources

# On a GPU, in an environment that has what $(PYTHON) has. DEVICE=emulated: the same commands without a GPU; gpu:1: the second.
# WHEELS=DIR: packages come from there alone, for a machine without a network.
DEVICE ?= gpu
WHEELS ?=
OURS   := build/python-$(subst :,-,$(DEVICE))
PIP    := $(OURS)/bin/python -m pip install -q --disable-pip-version-check $(if $(WHEELS),--no-index --find-links '$(WHEELS)')
ON_DEVICE := $(addprefix tests/test_,cuda_kernels.py device.py graph.py staging.py precision.py precision_kernels.py gpu_libraries.py nvidia_libraries.py)
SANITIZER ?= $(or $(shell command -v compute-sanitizer),$(wildcard /usr/local/cuda/bin/compute-sanitizer),compute-sanitizer)
SANITIZED := test_kernel and (mean or variance or normalize or batchnorm or groupnorm or softmax or backward_bias) \
    or test_networks and classifier-kept
device-ready:
	@$(PYTHON) cuda/ready.py $(DEVICE)
	@[ -z '$(WHEELS)' ] || [ -d '$(WHEELS)' ] || { echo "WHEELS=$(WHEELS): no such folder" >&2; exit 1; }
$(OURS)/made: $(SOURCES) | device-ready
	@$(PYTHON) cuda/ready.py $(DEVICE) --environment $(OURS)
	$(PIP) 'setuptools>=77' 'cffi>=1.15'
	$(PIP) $(if $(WHEELS),--no-build-isolation) -e '.[plot,test$(if $(filter emulated,$(DEVICE)),,$(comma)cuda)]'
	@touch $@
device-built: device-ready $(OURS)/made
	CUDA_ARCHS="$${CUDA_ARCHS:-$$($(PYTHON) cuda/ready.py $(DEVICE) --arch)}" \
	$(OURS)/bin/python cuda/build.py $(if $(filter emulated,$(DEVICE)),--emulated)

test-gpu: device-built  ## the tests of kernels and networks on a GPU, then compute-sanitizer over some; WHEELS=DIR: without a network
	@export DARKNETPY_TEST_DEVICE=$(DEVICE) PYTHONPATH=$(CURDIR); status=0; \
	$(OURS)/bin/python -m pytest -q -p no:cacheprovider $(ON_DEVICE) || status=1; \
	if ! command -v '$(SANITIZER)' >/dev/null; then \
	    echo "compute-sanitizer is not installed: memcheck, racecheck and initcheck are skipped"; exit $$status; fi; \
	for tool in memcheck racecheck initcheck; do echo "$$tool:"; \
	    timeout 75 '$(SANITIZER)' --tool $$tool --error-exitcode 9 --print-limit 20 --target-processes all \
	    $(OURS)/bin/python -m pytest -q -p no:cacheprovider $(ON_DEVICE) -k '$(SANITIZED)' || { echo "$$tool: failed, or not done in 75 s"; status=1; }; \
	done; exit $$status
bench-gpu: device-built ## bench kernels and bench network on a GPU: docs/bench/gpu-<its name>.md, .json and charts; FOLDER=DIR: there
	PYTHONPATH=$(CURDIR) $(OURS)/bin/python cuda/bench.py $(DEVICE) $(if $(FOLDER),--folder '$(FOLDER)')

clean:      ## remove what was built; .venv too
	rm -rf build dist .venv *.egg-info darknetpy/_darknet*.c darknetpy/*.so .pytest_cache .ruff_cache
