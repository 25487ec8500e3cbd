"""Products with weights of few bits: right for every form and shape, and never turned into a matrix of floats."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
from harness import BYTE_FEATURES, check_node, rejection
from hypothesis import given, settings
from hypothesis import strategies as st
from mace_cpu.quantized.low_bits.arguments import Form
from mace_cpu.quantized.low_bits.emit import FEW_ROWS
from mace_cpu.quantized.low_bits.weights import by_blocks
from onnx import TensorProto, helper, numpy_helper

from mace_core import Session
from mace_core.tensor import DType, Tensor

Array = npt.NDArray[Any]
MASKS = BYTE_FEATURES
CONTRIB = "com.microsoft"


def blocks_of(rng: np.random.Generator, k: int, n: int, bits: int, block: int, zeros: str) -> dict[str, Array | None]:
    """The constant inputs of a MatMulNBits."""
    count = -(-k // block)
    packed = {
        "": None,
        "packed": rng.integers(0, 256, n * -(-count * bits // 8)).astype(np.uint8),
        "float": (rng.random(n * count) * (1 << bits)).astype(np.float32),
    }
    return {
        "w": rng.integers(0, 256, (n, count, -(-block * bits // 8))).astype(np.uint8),
        "s": (rng.random(n * count) / 50 + 0.01).astype(np.float32),
        "z": packed[zeros],
    }


def numbers(data: Array, bits: int) -> Array:
    """The numbers of ``bits`` bits in the bytes of the last axis."""
    return np.unpackbits(data, axis=-1, bitorder="little").reshape(*data.shape[:-1], -1, bits) @ (1 << np.arange(bits))


def matrix_of(
    weights: dict[str, Array | None], k: int, n: int, bits: int, block: int, groups: Array | None = None
) -> Array:
    """The (K, N) matrix of float64 behind them, by the operator's definition; ``groups``: g_idx."""
    data, scales, zeros = weights["w"], weights["s"], weights["z"]
    assert data is not None and scales is not None
    count = -(-k // block)
    middle: Any = 1 << (bits - 1)
    if zeros is not None and zeros.dtype == np.uint8:
        middle = numbers(zeros.reshape(n, -1), bits)[:, :count, None]
    elif zeros is not None:
        middle = zeros.reshape(n, count, 1).astype(np.float64)
    if groups is not None:
        whole = numbers(data, bits)[:, :, :block].reshape(n, -1)[:, :k]
        middle = np.broadcast_to(middle, (n, count, 1))[:, groups[:k], 0]
        scaled: Array = (whole - middle) * scales.reshape(n, count)[:, groups[:k]].astype(np.float64)
        return scaled.T
    found = (numbers(data, bits)[:, :, :block] - middle) * scales.reshape(n, count, 1).astype(np.float64)
    return found.reshape(n, -1)[:, :k].T


def check_product(
    m: int,
    k: int,
    n: int,
    bits: int,
    block: int,
    zeros: str = "",
    biased: bool = False,
    groups: Array | None = None,
    **how: Any,
) -> tuple[str, ...]:
    """A MatMulNBits against the exact sum; returns the names of the steps."""
    rng = np.random.default_rng(k * n + m)
    weights = blocks_of(rng, k, n, bits, block, zeros)
    x = rng.standard_normal((m, k)).astype(np.float32)
    bias = rng.standard_normal(n).astype(np.float32) if biased else None
    right = x.astype(np.float64) @ matrix_of(weights, k, n, bits, block, groups) + (0 if bias is None else bias)
    inputs = {"x": x, **weights, "g": groups, "b": bias}
    constants = [name for name in "wszgb" if inputs[name] is not None]
    attributes = {"K": k, "N": n, "bits": bits, "block_size": block}
    expected = [right.astype(np.float32)]
    how = {"constants": constants, "expected": expected, "tol": 1e-5, **how}
    return check_node("MatMulNBits", inputs, attributes, domain=CONTRIB, **how).steps


@given(
    m=st.sampled_from([1, 1, 2, 3, 5, 17]),
    k=st.integers(1, 300),
    n=st.integers(1, 150),
    bits=st.sampled_from([2, 4, 8]),
    block=st.one_of(st.sampled_from([16, 32, 64, 256]), st.integers(7, 70)),
    zeros=st.sampled_from(["", "packed", "float"]),
    biased=st.booleans(),
    features=st.sampled_from(MASKS),
    threads=st.sampled_from([1, 2]),
)
@settings(max_examples=60, deadline=None)
def test_products_with_blocks_of_any_shape(
    m: int, k: int, n: int, bits: int, block: int, zeros: str, biased: bool, features: str | None, threads: int
) -> None:
    steps = check_product(m, k, n, bits, block, zeros, biased, features=features, threads=threads)
    assert f"MatMulNBits ({bits}-bit weights)" in steps


@given(
    m=st.sampled_from([1, 2, 9]),
    k=st.integers(64, 300),
    bits=st.sampled_from([2, 4, 8]),
    block=st.sampled_from([16, 32, 64, 20]),
    zeros=st.sampled_from(["", "packed", "float"]),
    is_long=st.booleans(),
    features=st.sampled_from(MASKS),
    seed=st.integers(0, 1 << 30),
)
@settings(max_examples=40, deadline=None)
def test_rows_of_any_block(
    m: int, k: int, bits: int, block: int, zeros: str, is_long: bool, features: str | None, seed: int
) -> None:
    """g_idx: any row may have the scale and the zero point of any block, also of more rows than a block has."""
    count = -(-k // block)
    groups = np.random.default_rng(seed).integers(0, count, count * block if is_long else k).astype(np.int32)
    steps = check_product(m, k, 50, bits, block, zeros, groups=groups, features=features)
    assert f"MatMulNBits ({bits}-bit weights)" in steps


@pytest.mark.parametrize("zeros", ["", "float"])
def test_rows_of_any_block_as_onnxruntime_has_it(zeros: str) -> None:
    """With packed zero points it gives others even where each row is of the block that it lies in."""
    groups = np.random.default_rng(0).permutation(np.arange(256) // 32).astype(np.int32)
    check_product(3, 256, 96, 4, 32, zeros, groups=groups, expected=None, oracle="onnxruntime", tol=1e-5)


@pytest.mark.parametrize("features", MASKS)
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_many_rows_in_any_instruction_set(bits: int, features: str | None) -> None:
    check_product(150, 400, 130, bits, 32, "packed", biased=True, features=features, threads=2)


@pytest.mark.parametrize("m", [1, 4])
@pytest.mark.parametrize(("bits", "block"), [(4, 32), (4, 128), (8, 64)])
def test_as_onnxruntime_has_it(bits: int, block: int, m: int) -> None:
    check_product(m, 256, 96, bits, block, "packed", expected=None, oracle="onnxruntime", tol=1e-5)


def rounded(x: Array, block: int, bits: int) -> Array:
    """Rows as they are in 8 bits, the largest magnitude of each block being 127 steps.

    Blocks that are not made of whole words of weights (no exporter writes such) are rounded in smaller ones, which are.
    """
    steps = x.shape[1]
    found = np.empty(x.shape, np.float64)
    size = block
    if block % Form(bits).group and block < steps:
        size = by_blocks(np.arange(steps) // block, Form(bits))[1]
    firsts = [first for whole in range(0, steps, block) for first in range(whole, min(whole + block, steps), size)]
    for first, end in zip(firsts, [*firsts[1:], steps], strict=True):
        part = x[:, first:end]
        scale = np.abs(part).max(axis=1, keepdims=True) / np.float32(127)
        factor = np.where(scale > 0, np.float32(1) / np.where(scale > 0, scale, 1), np.float32(0)).astype(np.float32)
        found[:, first:end] = np.rint(part * factor).astype(np.float64) * scale
    return found


@given(
    m=st.sampled_from([1, 2, 5, 17]),
    k=st.integers(1, 300),
    n=st.integers(1, 150),
    bits=st.sampled_from([2, 4, 8]),
    block=st.one_of(st.sampled_from([16, 32, 128]), st.integers(7, 70)),
    zeros=st.sampled_from(["", "packed", "float"]),
    biased=st.booleans(),
    features=st.sampled_from(MASKS),
)
@settings(max_examples=40, deadline=None)
def test_rows_that_are_rounded(
    m: int, k: int, n: int, bits: int, block: int, zeros: str, biased: bool, features: str | None
) -> None:
    """Accuracy level 4: rows of 8 bits, whatever the processor multiplies them with."""
    check_rounded(m, k, n, bits, block, zeros, biased, features)


@pytest.mark.parametrize("features", MASKS)
@pytest.mark.parametrize(("k", "block"), [(70, 32), (48, 16), (9, 20)])
def test_many_rows_that_are_rounded(k: int, block: int, features: str | None) -> None:
    """Where bytes must be widened they are multiplied as floats."""
    check_rounded(FEW_ROWS + 1, k, 21, 4, block, "packed", False, features)


def check_rounded(
    m: int, k: int, n: int, bits: int, block: int, zeros: str, biased: bool, features: str | None
) -> None:
    rng = np.random.default_rng(k * n + m)
    weights = blocks_of(rng, k, n, bits, block, zeros)
    x = rng.standard_normal((m, k)).astype(np.float32)
    x[0, : block // 2] = 0
    bias = rng.standard_normal(n).astype(np.float32) if biased else np.zeros(n, np.float32)
    right = (rounded(x, block, bits) @ matrix_of(weights, k, n, bits, block) + bias).astype(np.float32)
    inputs = {"x": x, **weights, "g": None, "b": bias if biased else None}
    attributes = {"K": k, "N": n, "bits": bits, "block_size": block, "accuracy_level": 4}
    constants = [name for name in "wszb" if inputs[name] is not None]
    how: dict[str, Any] = {"constants": constants, "expected": [right], "tol": 2e-5, "features": features}
    check_node("MatMulNBits", inputs, attributes, domain=CONTRIB, **how)


def test_a_bias_that_the_run_brings() -> None:
    rng = np.random.default_rng(1)
    weights = blocks_of(rng, 64, 40, 4, 32, "")
    x, bias = rng.standard_normal((2, 64)).astype(np.float32), rng.standard_normal(40).astype(np.float32)
    right = x.astype(np.float64) @ matrix_of(weights, 64, 40, 4, 32) + bias
    inputs = {"x": x, **weights, "g": None, "b": bias}
    attributes = {"K": 64, "N": 40, "bits": 4, "block_size": 32}
    how: dict[str, Any] = {"constants": ["w", "s"], "expected": [right.astype(np.float32)], "tol": 1e-5}
    check_node("MatMulNBits", inputs, attributes, domain=CONTRIB, **how)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"g": np.arange(64, dtype=np.int32) // 16}, "blocks that there are not (g_idx)"),
        ({"g": np.arange(64, dtype=np.int32) // 32, "constants": ["w", "s"]}, "g_idx"),
        ({"bits": 3}, "bits"),
        ({"weight_prepacked": 1}, "weight_prepacked"),
        ({"constants": ["s"]}, "not known before the run"),
    ],
)
def test_what_is_not_unpacked_in_registers_is_declined_with_a_reason(change: dict[str, Any], words: str) -> None:
    weights = blocks_of(np.random.default_rng(0), 64, 40, 4, 32, "")
    inputs = [np.ones((2, 64), np.float32), weights["w"], weights["s"], None, change.get("g")]
    attributes = {"K": 64, "N": 40, "bits": 4, "block_size": 32}
    attributes |= {key: value for key, value in change.items() if key in ("bits", "weight_prepacked")}
    constants = [f"x{'xwszg'.index(name)}" for name in change.get("constants", ["w", "s", "g"])]
    constants = [name for name in constants if inputs[int(name[1:])] is not None]
    expected = [np.ones((2, 40), np.float32)]
    reason = rejection("MatMulNBits", inputs, expected, attributes, domain=CONTRIB, constants=constants)
    assert words in reason


# --- weights behind a DequantizeLinear --------------------------------------------------------------------------------

STORED = {
    "int4": TensorProto.INT4,
    "uint4": TensorProto.UINT4,
    "int2": TensorProto.INT2,
    "uint2": TensorProto.UINT2,
    "int8": TensorProto.INT8,
    "uint8": TensorProto.UINT8,
    "float8e4m3fn": TensorProto.FLOAT8E4M3FN,
    "float8e5m2": TensorProto.FLOAT8E5M2,
}


def raw(name: str, kind: str, values: Array) -> TensorProto:
    """A constant that lies in the file as it does in memory, so that it can be read there."""
    tensor = Tensor.from_numpy(values.astype(DType.from_label(kind).numpy))
    return helper.make_tensor(name, STORED[kind], values.shape, tensor.payload.tobytes(), raw=True)


def dequantized_product(
    kind: str, rows: int, k: int, n: int, *, block: int, lie: str, form: str, zeros: bool
) -> tuple[bytes, Array, Array]:
    """A model with a DequantizeLinear before a product, its input, and the right result.

    ``lie``: "plain" (K, N), or "turned": (N, K) and a Transpose or transB; ``form``: MatMul or Gemm.
    """
    rng = np.random.default_rng(k + n)
    turned = lie == "turned"
    shape = (n, k) if turned else (k, n)
    along = 1 if turned else 0
    scales = [n] if not block else [-(-k // block) if axis == along else n for axis in (0, 1)]
    if kind.startswith("float"):
        values = rng.standard_normal(shape).astype(getattr(ml_dtypes, kind.replace("float8", "float8_")))
        offsets = np.zeros(scales)
    else:
        bits = int(kind.strip("uint"))
        low = -(1 << (bits - 1)) if kind.startswith("int") else 0
        values = rng.integers(low, low + (1 << bits), shape)
        offsets = rng.integers(low, low + (1 << bits), scales) if zeros else np.zeros(scales)
    scale = (rng.random(scales) / 20 + 0.01).astype(np.float32)

    def spread(array: Array) -> Array:
        if block:
            return np.repeat(array, block, along)[tuple(slice(size) for size in shape)]
        return array.reshape([-1 if axis != along else 1 for axis in (0, 1)])

    matrix = (values.astype(np.float64) - spread(offsets)) * spread(scale.astype(np.float64))
    matrix = matrix.T if turned else matrix
    constants = [
        raw("w", kind, values),
        numpy_helper.from_array(scale, "s"),
    ]
    if zeros:
        constants.append(raw("z", kind, offsets))
    options: dict[str, Any] = {"axis": along, "block_size": block} if block else {"axis": 1 - along}
    nodes = [helper.make_node("DequantizeLinear", ["w", "s", "z"][: 3 if zeros else 2], ["f"], **options)]
    x = rng.standard_normal((rows, k)).astype(np.float32)
    right = x @ matrix
    if form == "Gemm":
        bias = rng.standard_normal(n).astype(np.float32)
        constants.append(numpy_helper.from_array(bias, "b"))
        nodes.append(helper.make_node("Gemm", ["x", "f", "b"], ["y"], transB=int(turned)))
        right = right + bias
    else:
        if turned:
            nodes.append(helper.make_node("Transpose", ["f"], ["t"], perm=[1, 0]))
        nodes.append(helper.make_node("MatMul", ["x", nodes[-1].output[0]], ["y"]))
    value = helper.make_tensor_value_info
    made = [value("x", TensorProto.FLOAT, [rows, k]), value("y", TensorProto.FLOAT, [rows, n])]
    graph = helper.make_graph(nodes, "weights", made[:1], made[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 25)], ir_version=13)
    return model.SerializeToString(), x, right


@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("block", [0, 32, 20, 150])
@pytest.mark.parametrize(("lie", "form"), [("plain", "MatMul"), ("turned", "MatMul"), ("turned", "Gemm")])
@pytest.mark.parametrize("kind", sorted(STORED))
def test_weights_behind_dequantize_linear_stay_as_they_are(
    kind: str, lie: str, form: str, block: int, zeros: bool
) -> None:
    for rows, k, n in ((1, 256, 100), (3, 301, 101)):
        model, x, right = dequantized_product(kind, rows, k, n, block=block, lie=lie, form=form, zeros=zeros)
        with Session(model, devices=["cpu"], strict=True, cache=False) as session:
            found = session.run({"x": x})["y"]
            steps = [span.name for span in session.profile({"x": x}).spans]
        np.testing.assert_allclose(found, right, rtol=1e-5, atol=1e-5 * np.abs(right).max())
        assert any("weights)" in name for name in steps), steps


@pytest.mark.parametrize("lie", ["plain", "turned"])
@pytest.mark.parametrize("kind", ["int4", "uint8", "float8e4m3fn"])
def test_a_scale_for_each_step(kind: str, lie: str) -> None:
    """The scales of the axis that is summed over; they multiply the input."""
    rng = np.random.default_rng(0)
    k, n = 190, 120
    shape = (n, k) if lie == "turned" else (k, n)
    values = rng.integers(0, 8, shape).astype(DType.from_label(kind).numpy)
    scale = (rng.random(k) + 0.1).astype(np.float32)
    nodes = [helper.make_node("DequantizeLinear", ["w", "s"], ["f"], axis=1 if lie == "turned" else 0)]
    if lie == "turned":
        nodes.append(helper.make_node("Transpose", ["f"], ["t"], perm=[1, 0]))
    nodes.append(helper.make_node("MatMul", ["x", nodes[-1].output[0]], ["y"]))
    value = helper.make_tensor_value_info
    made = [value("x", TensorProto.FLOAT, [3, k]), value("y", TensorProto.FLOAT, [3, n])]
    constants = [raw("w", kind, values), numpy_helper.from_array(scale, "s")]
    graph = helper.make_graph(nodes, "steps", made[:1], made[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 25)], ir_version=13)
    x = rng.standard_normal((3, k)).astype(np.float32)
    whole = values.astype(np.float64)
    right = (x * scale) @ (whole.T if lie == "turned" else whole)
    with Session(model.SerializeToString(), devices=["cpu"], strict=True, cache=False) as session:
        found = session.run({"x": x})["y"]
        steps = [span.name for span in session.profile({"x": x}).spans]
    np.testing.assert_allclose(found, right, rtol=1e-5, atol=1e-5 * np.abs(right).max())
    assert any("weights)" in name for name in steps), steps


def test_users_of_one_weight_and_of_its_floats(tmp_path: Path) -> None:
    """Two products share the packed weights; whoever wants the floats has them."""
    rng = np.random.default_rng(0)
    stored = rng.integers(-128, 128, (192, 192)).astype(np.int8)
    scale = (rng.random(192) / 100).astype(np.float32)
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "s"], ["f"], axis=1),
        helper.make_node("MatMul", ["x", "f"], ["h"]),
        helper.make_node("MatMul", ["h", "f"], ["y"]),
        helper.make_node("ReduceMax", ["f"], ["largest"], keepdims=0),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "shared",
        [value("x", TensorProto.FLOAT, [1, 192])],
        [value("y", TensorProto.FLOAT, [1, 192]), value("largest", TensorProto.FLOAT, [])],
        [numpy_helper.from_array(stored, "w"), numpy_helper.from_array(scale, "s")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    matrix = stored.astype(np.float64) * scale
    x = rng.standard_normal((1, 192)).astype(np.float32)
    with Session(model.SerializeToString(), devices=["cpu"], strict=True, cache=False) as session:
        found = session.run({"x": x})
    np.testing.assert_allclose(found["y"], x @ matrix @ matrix, rtol=1e-4)
    assert found["largest"] == np.float32(matrix.max())


def test_half_precision_around_packed_weights() -> None:
    """A model in float16 multiplies with the packed weights, too."""
    rng = np.random.default_rng(0)
    weights = blocks_of(rng, 256, 96, 4, 32, "packed")
    assert weights["s"] is not None
    weights["s"] = weights["s"].astype(np.float16)
    bias = rng.standard_normal(96).astype(np.float16)
    node = helper.make_node(
        "MatMulNBits", ["x", "w", "s", "z", "", "b"], ["y"], domain=CONTRIB, K=256, N=96, bits=4, block_size=32
    )
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [node],
        "half",
        [value("x", TensorProto.FLOAT16, [2, 256])],
        [value("y", TensorProto.FLOAT16, [2, 96])],
        [numpy_helper.from_array(a, name) for name, a in {**weights, "b": bias}.items()],
    )
    imports = [helper.make_opsetid("", 21), helper.make_opsetid(CONTRIB, 1)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=10).SerializeToString()
    x = rng.standard_normal((2, 256)).astype(np.float16)
    right = x.astype(np.float64) @ matrix_of(weights, 256, 96, 4, 32) + bias
    with Session(model, devices=["cpu"], strict=True, cache=False) as session:
        found = session.run({"x": x})["y"]
        steps = [span.name for span in session.profile({"x": x}).spans]
    np.testing.assert_allclose(found, right, rtol=2e-3, atol=2e-3 * np.abs(right).max())
    assert any("4-bit weights" in name for name in steps)


# --- tables -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [np.float32, np.float16])
@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize(
    ("kind", "bits", "shape", "gather", "quantize", "block"),
    [
        ("uint8", 4, (6, 96), 0, 1, 32),
        ("uint8", 8, (5, 80), 0, 1, 32),
        ("uint8", 2, (6, 3, 64), 0, 2, 16),
        ("int4", 4, (6, 3, 64), 1, 2, 16),
        ("int4", 4, (64, 6), 1, 0, 16),
        ("uint4", 4, (50, 3, 5), 0, 0, 16),
        ("uint4", 4, (5, 80), 0, 1, 32),
    ],
)
def test_entries_of_a_packed_table(
    kind: str, bits: int, shape: tuple[int, ...], gather: int, quantize: int, block: int, zeros: bool, scale: type
) -> None:
    rng = np.random.default_rng(5)

    def packed(sizes: tuple[int, ...]) -> Array:
        if kind == "uint8":
            return rng.integers(0, 256, (*sizes[:-1], -(-sizes[-1] * bits // 8))).astype(np.uint8)
        low = -8 if kind == "int4" else 0
        return rng.integers(low, low + 16, sizes).astype(getattr(ml_dtypes, kind))

    scales = tuple(-(-size // block) if axis == quantize else size for axis, size in enumerate(shape))
    inputs = {
        "table": packed(shape),
        "indices": rng.integers(-shape[gather], shape[gather], (2, 3)).astype(np.int64),
        "scales": (rng.random(scales) + 0.1).astype(scale),
        "zeros": packed(scales) if zeros else None,
    }
    attributes = {"bits": bits, "gather_axis": gather, "quantize_axis": quantize, "block_size": block}
    constants = [name for name in ("table", "scales", "zeros") if inputs[name] is not None]
    how: dict[str, Any] = {"constants": constants, "oracle": "onnxruntime", "threads": 2}
    ran = check_node("GatherBlockQuantized", inputs, attributes, domain=CONTRIB, **how)
    assert ran.steps == ("GatherBlockQuantized",)


# --- memory -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "block"), [("int4", 32), ("uint4", 128), ("int4", 24), ("uint8", 0), ("float8e4m3fn", 0)]
)
def test_packed_weights_take_no_more_room_than_the_file(
    kind: str, block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that a plan holds of weights is in the cache folder; floats would be four or eight times as much."""
    monkeypatch.setenv("MACE_CACHE_DIR", str(tmp_path / "cache"))
    model, x, _ = dequantized_product(kind, 1, 2048, 1024, block=block, lie="plain", form="MatMul", zeros=True)
    (tmp_path / "model.onnx").write_bytes(model)
    with Session(tmp_path / "model.onnx", devices=["cpu"], strict=True) as session:
        session.run({"x": x})
    weights = [f.stat().st_size for f in (tmp_path / "cache").rglob("*") if f.is_file()]
    assert sum(weights) <= 1.2 * len(model)


@pytest.mark.parametrize("features", [None, "baseline"])
@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("form", ["tensor", "rows", "columns", "blocks"])
@pytest.mark.parametrize("kind", ["int8", "uint8", "int4", "uint4"])
def test_entries_of_a_table_behind_dequantize_linear(kind: str, form: str, zeros: bool, features: str | None) -> None:
    """Only what is gathered becomes floats, with the bits that DequantizeLinear gives."""
    rng = np.random.default_rng(0)
    shape = (300, 90)
    bits, signed = int(kind.strip("uint")), kind.startswith("int")
    low = -(1 << (bits - 1)) if signed else 0
    values = rng.integers(low, low + (1 << bits), shape)
    scales = {"tensor": (), "rows": (300,), "columns": (90,), "blocks": (300, 3)}[form]
    scale = (rng.random(scales) + 0.01).astype(np.float32)
    offsets = rng.integers(low, low + (1 << bits), scales)
    options = {"tensor": {}, "rows": {"axis": 0}, "columns": {"axis": 1}, "blocks": {"axis": 1, "block_size": 30}}[form]
    names = ["w", "s", "z"][: 3 if zeros else 2]
    nodes = [
        helper.make_node("DequantizeLinear", names, ["f"], **options),
        helper.make_node("Gather", ["f", "i"], ["y"], axis=0),
    ]
    value = helper.make_tensor_value_info
    constants = [raw("w", kind, values), numpy_helper.from_array(scale, "s")]
    constants += [raw("z", kind, offsets)] * zeros
    graph = helper.make_graph(
        nodes,
        "table",
        [value("i", TensorProto.INT64, [2, 3])],
        [value("y", TensorProto.FLOAT, [2, 3, 90])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    indices = np.array([[0, 5, 299], [-1, -300, 17]], np.int64)

    def spread(array: Array) -> Array:
        if form == "blocks":
            return np.repeat(array, 30, 1)
        return array.reshape(-1, 1) if form == "rows" else array

    whole = (values - (spread(offsets) if zeros else 0)).astype(np.float32) * spread(scale)
    options_of_cpu = {"cpu": {"features": features or "native"}}
    with Session(
        model.SerializeToString(), devices=["cpu"], strict=True, cache=False, options=options_of_cpu
    ) as session:
        found = session.run({"i": indices})["y"]
        steps = [span.name for span in session.profile({"i": indices}).spans]
    np.testing.assert_array_equal(found, whole[indices])
    assert steps == ["GatherBlockQuantized"], steps
