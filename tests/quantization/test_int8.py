"""Eight bits: the file, what engines make of it, and how far its results are from the float model's."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from mace_core import Session
from mace_core.quantization import Settings, quantize

sys.path.insert(0, str(Path(__file__).parent))
from quantization_networks import residual_network, samples, sqnr_db


@pytest.fixture(scope="module")
def quantized(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("int8") / "residual.onnx"
    quantize(residual_network(), path, data=samples(16))
    return path


def run_ort(model: bytes | str, feeds: dict[str, np.ndarray]) -> np.ndarray:
    return ort.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, feeds)[0]


def test_the_file_is_valid_onnx_with_the_same_inputs_and_outputs(quantized: Path) -> None:
    onnx.checker.check_model(str(quantized), full_check=True)
    model = onnx.load(quantized)
    assert [value.name for value in model.graph.input] == ["x"]
    assert [value.name for value in model.graph.output] == ["y"]
    floats = [tensor for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT]
    assert max(np.prod(tensor.dims) for tensor in floats) <= 16  # scales


@pytest.mark.parametrize("scheme", ["int8", "a16w8"])
def test_results_are_near_those_of_the_float_model(tmp_path: Path, scheme: str) -> None:
    model, path = residual_network(), tmp_path / "q.onnx"
    quantize(model, path, data=samples(16), settings=Settings(scheme))
    for x in samples(4, seed=1):
        wanted = run_ort(model.SerializeToString(), {"x": x})
        assert sqnr_db(run_ort(str(path), {"x": x}), wanted) > 28
        assert sqnr_db(Session(str(path)).run({"x": x})["y"], wanted) > 28


def test_onnxruntime_computes_every_product_sum_and_pool_in_integers(quantized: Path, tmp_path: Path) -> None:
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3
    ort.InferenceSession(str(quantized), options, providers=["CPUExecutionProvider"])
    ops = Counter(node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node)
    assert ops["QLinearConv"] == 3 and ops["QGemm"] == 1 and ops["QLinearAdd"] == 1
    assert not ops.keys() & {"Conv", "Gemm", "Add", "Relu", "Clip", "MaxPool", "GlobalAveragePool"}
    assert ops["QuantizeLinear"] == ops["DequantizeLinear"] == 1  # at the ends alone
