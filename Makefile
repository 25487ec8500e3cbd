# make demo   create .venv, install the core and the CPU provider, read the text on a picture
# make test   lint, types and the tests that finish in minutes
# make test-full   everything, by hand and before a release

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
PACKAGES := mace_core plugins/cpu/mace_cpu plugins/opencl/mace_opencl plugins/hexagon/mace_hexagon \
            plugins/apu/mace_apu plugins/npu/mace_npu examples/vendor_plugin/acme_npu
PLUGINS := $(foreach name,cpu opencl hexagon apu npu,-e ./plugins/$(name)) -e ./examples/vendor_plugin
# Both carry trained models as plain files; what they would pull in besides is not needed to read those.
MODELS := rapidocr-onnxruntime silero-vad

.PHONY: demo test test-full lint types clean
.DELETE_ON_ERROR:

demo: $(VENV)/.demo
	$(BIN)/python examples/ocr/read_text.py --expect examples/ocr/page.txt

test: $(VENV)/.test lint types
	$(BIN)/python -m pytest

test-full: $(VENV)/.test lint types
	$(BIN)/python -m pytest -m "full or not full"

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.test
	$(BIN)/mypy $(PACKAGES)

$(VENV)/.base:
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.demo: $(VENV)/.base pyproject.toml plugins/cpu/pyproject.toml constraints.txt
	$(PIP) install -q -c constraints.txt -e . -e ./plugins/cpu opencv-python-headless
	$(PIP) install -q -c constraints.txt --no-deps rapidocr-onnxruntime
	touch $@

$(VENV)/.test: $(VENV)/.base pyproject.toml plugins/cpu/pyproject.toml constraints.txt
	$(PIP) install -q -c constraints.txt -e .[dev] $(PLUGINS) opencv-python-headless
	$(PIP) install -q -c constraints.txt --no-deps $(MODELS)
	touch $@

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
