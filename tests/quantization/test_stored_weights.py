"""Weights in unusual places and forms: in branches, behind a Cast, of sizes that no block divides, in other files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from mace_core.errors import UsageError
from mace_core.host.blas import blas_threads
from mace_core.quantization import Quantizer, Settings, quantize
from mace_core.sparsity import Pruner

RANDOM = np.random.default_rng(0)


def floats(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape, np.float32)


def model(
    nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray], *, inputs: dict[str, Any], opset: int = 17
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "stored",
        [helper.make_tensor_value_info(name, *given) for name, given in inputs.items()],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def run(source: Any, feeds: dict[str, np.ndarray]) -> np.ndarray:
    content = str(source) if isinstance(source, Path) else source.SerializeToString()
    return onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"]).run(None, feeds)[0]


def branches() -> onnx.ModelProto:
    """A product, and an If whose branches turn the same weights around and multiply with them."""

    def branch(name: str) -> onnx.GraphProto:
        nodes = [
            helper.make_node("Transpose", ["w"], [f"{name}_t"], perm=[1, 0]),
            helper.make_node("MatMul", ["h", f"{name}_t"], [f"{name}_y"]),
        ]
        result = helper.make_tensor_value_info(f"{name}_y", TensorProto.FLOAT, None)
        return helper.make_graph(nodes, name, [], [result])

    chosen = helper.make_node("If", ["is_long"], ["y"], then_branch=branch("then"), else_branch=branch("else"))
    nodes = [
        helper.make_node("MatMul", ["x", "v"], ["h"], name="product"),
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("ReduceProd", ["shape"], ["size"], keepdims=0),
        helper.make_node("Greater", ["size", "limit"], ["is_long"]),
        chosen,
    ]
    constants = {"v": floats(64, 64), "w": floats(64, 64), "limit": np.array(1000, np.int64)}
    return model(nodes, constants, inputs={"x": (TensorProto.FLOAT, ["n", 64])})


@pytest.mark.parametrize("scheme", ["int8", "dynamic", "fp16", "int4-weight"])
def test_weights_that_several_branches_read_are_stored_once(tmp_path: Path, scheme: str) -> None:
    source = branches()
    found = quantize(source, tmp_path / "o.onnx", settings=Settings(scheme), data=[floats(3, 64)])
    assert found.nodes and (tmp_path / "o.onnx").stat().st_size < 1.7 * 64 * 64 * 4
    x = floats(3, 64)
    wanted = run(source, {"x": x})
    assert np.abs(run(tmp_path / "o.onnx", {"x": x}) - wanted).mean() < 0.2 * np.abs(wanted).mean()


def test_a_branch_that_shapes_decide_is_no_arithmetic_of_shapes(tmp_path: Path) -> None:
    found = quantize(branches(), tmp_path / "o.onnx", settings=Settings("fp16"))
    (reason,) = [reason for node, reason in found.floats.items() if "If" in node]
    assert reason == "control flow: its graphs stay in float32"


def test_models_that_are_all_control_flow_say_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no node to quantize: control flow: its graphs stay in float"):
        quantize(branches(), tmp_path / "o.onnx", settings=Settings("dynamic", exclude=("product",)))


def narrow(stored: Any) -> onnx.ModelProto:
    """A product with weights that are stored in another type, behind a Cast and a scale."""
    nodes = [
        helper.make_node("Cast", ["w"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["wide", "scale"], ["weights"]),
        helper.make_node("MatMul", ["x", "weights"], ["m"], name="product"),
        helper.make_node("Relu", ["m"], ["y"]),
    ]
    constants = {"w": (floats(640, 640) * 40).astype(stored), "scale": np.full((1, 640), 0.02, np.float32)}
    return model(nodes, constants, inputs={"x": (TensorProto.FLOAT, [2, 640])})


@pytest.mark.parametrize("stored", [np.int8, np.float16])
@pytest.mark.parametrize(("scheme", "bits"), [("int8", 8), ("dynamic", 8), ("int4-weight", 5)])
def test_weights_behind_a_cast_are_weights(tmp_path: Path, stored: Any, scheme: str, bits: int) -> None:
    source = narrow(stored)
    found = quantize(source, tmp_path / "o.onnx", settings=Settings(scheme), data=[floats(2, 640)])
    assert "product" in found.weights
    assert (tmp_path / "o.onnx").stat().st_size < 640 * 640 * bits // 8 + 20_000
    x = floats(2, 640)
    wanted = run(source, {"x": x})
    assert np.abs(run(tmp_path / "o.onnx", {"x": x}) - wanted).mean() < 0.2 * np.abs(wanted).mean()


def test_halves_leave_weights_as_narrow_as_they_are(tmp_path: Path) -> None:
    quantize(narrow(np.int8), tmp_path / "o.onnx", settings=Settings("fp16"))
    assert (tmp_path / "o.onnx").stat().st_size < 640 * 640 + 20_000


@pytest.mark.parametrize(("inputs", "block"), [(64, 32), (200, 25), (129, 0), (16, 16)])
@pytest.mark.parametrize("rounding", ["nearest", "gptq"])
def test_blocks_divide_the_inputs_as_openvino_asks_for(tmp_path: Path, inputs: int, block: int, rounding: str) -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], name="product")]
    source = model(nodes, {"w": floats(inputs, 48)}, inputs={"x": (TensorProto.FLOAT, [4, inputs])})
    settings = Settings("int4-weight", rounding=rounding)
    found = quantize(source, tmp_path / "o.onnx", settings=settings, data=[floats(4, inputs)])
    _, encoding = found.weights["product"]
    assert encoding.block_size == block
    assert encoding.scale.shape == ((inputs // block, 48) if block else (48,))
    x = floats(4, inputs)
    wanted = run(source, {"x": x})
    assert np.abs(run(tmp_path / "o.onnx", {"x": x}) - wanted).mean() < 0.2 * np.abs(wanted).mean()


@pytest.mark.parametrize("scheme", ["int4-weight", "dynamic", "int8"])
def test_square_weights_that_are_transposed_are_compared_the_right_way_round(tmp_path: Path, scheme: str) -> None:
    nodes = [helper.make_node("Gemm", ["x", "w"], ["y"], name="product", transB=1)]
    source = model(nodes, {"w": floats(64, 64)}, inputs={"x": (TensorProto.FLOAT, [4, 64])})
    found = quantize(source, tmp_path / "o.onnx", settings=Settings(scheme), data=[floats(4, 64)], reports=True)
    assert found.report is not None
    (layer,) = found.report.layers
    assert layer.weight_sqnr_db is not None and layer.weight_sqnr_db > 15


def external(folder: Path, data: str) -> Path:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], name="product")]
    source = model(nodes, {"w": floats(256, 256)}, inputs={"x": (TensorProto.FLOAT, [2, 256])})
    onnx.save(source, folder / "model.onnx", save_as_external_data=True, location=data, size_threshold=0)
    return folder / "model.onnx"


def test_weights_in_another_file_count(tmp_path: Path) -> None:
    found = quantize(
        external(tmp_path, "any.name"), tmp_path / "o.onnx", settings=Settings("int4-weight"), reports=True
    )
    assert found.report is not None and 256 * 1024 < found.report.size_before < 257 * 1024
    assert found.report.size_after == (tmp_path / "o.onnx").stat().st_size


@pytest.mark.parametrize("tool", [quantize, lambda *given, data: Pruner(given[0], all_layers=True).run(given[1])])
def test_the_weights_of_the_model_are_never_written_over(tmp_path: Path, tool: Any) -> None:
    path = external(tmp_path, "o.onnx.data")
    before = (tmp_path / "o.onnx.data").read_bytes()
    with pytest.raises(UsageError, match=r"would go to 'o.onnx.data', where those of the model are"):
        tool(path, tmp_path / "o.onnx", data=[floats(2, 256)])
    assert (tmp_path / "o.onnx.data").read_bytes() == before
    assert sorted(file.name for file in tmp_path.iterdir()) == ["model.onnx", "o.onnx.data"]


def test_rounding_takes_as_many_threads_as_its_matrices_are_worth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thousands of small products, each of which would wait for threads that other processes keep from running."""
    from threadpoolctl import threadpool_info, threadpool_limits

    from mace_core.quantization.weights import gptq

    def threads() -> set[int]:
        return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}

    seen: list[set[int]] = []
    inverse = gptq.inverse_factor
    monkeypatch.setattr(gptq, "inverse_factor", lambda *given: (seen.append(threads()), inverse(*given))[1])
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], name="product")]
    source = model(nodes, {"w": floats(64, 64)}, inputs={"x": (TensorProto.FLOAT, [4, 64])})
    with threadpool_limits(8, user_api="blas"):
        before = threads()
        Quantizer(source, Settings("int4-weight", rounding="gptq")).run(tmp_path / "o.onnx", data=[floats(4, 64)])
        assert seen == [{1}] and threads() == before
        monkeypatch.setattr("mace_core.host.blas.default_threads", lambda: 3)
        with blas_threads(4096):
            assert threads() == {3}
        assert threads() == before
