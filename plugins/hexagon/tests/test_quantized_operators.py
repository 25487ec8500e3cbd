"""Operators between DequantizeLinear and QuantizeLinear nodes: within a step of the CPU, and integers where QNN has
them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from hexagon_support import Array
from hypothesis import given, settings
from hypothesis import strategies as st
from mace_hexagon import backend
from mace_hexagon.lowering.engine import Lowering, Outcome
from onnx import TensorProto, helper, numpy_helper

from mace_core.session import Session

pytestmark = pytest.mark.usefixtures("library_folder")

NODE = helper.make_node
CODES = {"u8": (np.uint8, 128), "s8": (np.int8, 0), "u16": (np.uint16, 32768), "s16": (np.int16, 0)}
SHAPE = (1, 4, 6, 6)
INT64 = np.int64

OPERATORS: dict[str, tuple[int, dict[int, Any], dict[str, Any]]] = {
    **{op: (1, {}, {}) for op in ("Relu", "Sigmoid", "Tanh", "Elu", "LeakyRelu", "GlobalAveragePool", "GlobalMaxPool")},
    **{op: (2, {}, {}) for op in ("Add", "Sub", "Mul", "Max")},
    "HardSigmoid": (1, {}, {}),
    "Clip": (1, {1: np.float32(-0.5), 2: np.float32(0.7)}, {}),
    "MaxPool": (1, {}, {"kernel_shape": [2, 2], "strides": [2, 2]}),
    "AveragePool": (1, {}, {"kernel_shape": [2, 2], "strides": [2, 2]}),
    "LpPool": (1, {}, {"kernel_shape": [2, 2]}),
    "ReduceMean": (1, {1: INT64([1, 2])}, {}),
    "Resize": (1, {1: np.zeros(0, np.float32), 2: np.float32([1, 1, 2, 2])}, {"mode": "linear"}),
    "Gather": (1, {1: INT64([0, 2])}, {"axis": 1}),
    "GatherND": (1, {1: INT64([[0, 2], [0, 1]])}, {}),
    "Pad": (1, {1: INT64([0, 0, 1, 1, 0, 0, 1, 1])}, {}),
    "Slice": (1, {1: INT64([1]), 2: INT64([3]), 3: INT64([2])}, {}),
    "Concat": (2, {}, {"axis": 1}),
    "Transpose": (1, {}, {"perm": [0, 2, 3, 1]}),
    "Reshape": (1, {1: INT64([1, 4, 36])}, {}),
    "Greater": (2, {}, {}),
    "Equal": (2, {}, {}),
    "TopK": (1, {1: INT64([3])}, {}),
    "InstanceNormalization": (1, {1: np.ones(4, np.float32), 2: np.zeros(4, np.float32)}, {}),
}
"""Quantized operands, constant ones by position, attributes."""

FLOAT = {
    "u8": {"GatherND", "LpPool", "InstanceNormalization", "TopK", "Greater", "Equal"},
}
FLOAT["s8"] = FLOAT["u8"] | {"HardSigmoid"}
FLOAT["u16"] = FLOAT["u8"] | {"HardSigmoid"}
FLOAT["s16"] = FLOAT["u16"] | {"AveragePool", "Clip", "GlobalAveragePool", "Pad", "Resize"}
"""What QNN computes as real numbers, or takes in no integer form."""

REQUANTIZED = {"Relu", "Sigmoid", "Tanh", "Elu", "LeakyRelu", "HardSigmoid", "Add", "Sub", "Mul", "LpPool"} | {
    "InstanceNormalization"
}
"""Those whose result has a scale of its own here."""


def network(kind: str, ops: Sequence[str]) -> tuple[onnx.ModelProto, float]:
    """All of ``ops`` on the inputs x and y, each result quantized; and the widest step of a result."""
    numpy, zero = CODES[kind]
    codes = np.iinfo(numpy)
    scale = np.float32(4.0 / (int(codes.max) - int(codes.min)))
    wide = np.float32(scale * 2)
    constants: dict[str, Array] = {"s": np.asarray(scale), "w": np.asarray(wide), "z": np.asarray(zero, numpy)}
    nodes, results = [], []
    for name in "xy":
        nodes.append(NODE("QuantizeLinear", [name, "s", "z"], [f"{name}_q"], name=f"q_{name}"))
    for op in ops:
        count, held, attributes = OPERATORS[op]
        inputs = [f"{op}_{index}" for index in range(count)]
        for name, operand in zip("xy", inputs, strict=False):
            nodes.append(NODE("DequantizeLinear", [f"{name}_q", "s", "z"], [operand], name=f"d_{operand}"))
        for index, array in held.items():
            constants[f"{op}_c{index}"] = np.asarray(array)
            inputs.insert(index, f"{op}_c{index}")
        if op in ("Greater", "Equal"):
            nodes.append(NODE(op, inputs, [f"{op}_out"], name=op, **attributes))
            results.append(helper.make_tensor_value_info(f"{op}_out", TensorProto.BOOL, None))
            continue
        step = "w" if op in REQUANTIZED else "s"
        nodes += [
            NODE(op, inputs, [f"{op}_r", *([""] if op == "TopK" else [])], name=op, **attributes),
            NODE("QuantizeLinear", [f"{op}_r", step, "z"], [f"{op}_q"], name=f"q_{op}"),
            NODE("DequantizeLinear", [f"{op}_q", step, "z"], [f"{op}_out"], name=f"d_{op}"),
        ]
        results.append(helper.make_tensor_value_info(f"{op}_out", TensorProto.FLOAT, None))
    graph = helper.make_graph(
        nodes,
        "quantized",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, SHAPE) for name in "xy"],
        results,
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), float(wide)


def sample(seed: int) -> dict[str, Array]:
    random = np.random.default_rng(seed)
    return {name: random.uniform(-1.9, 1.9, SHAPE).astype(np.float32) for name in "xy"}


def differences(made: onnx.ModelProto, feeds: dict[str, Array]) -> dict[str, float]:
    with Session(made, devices=["cpu"], cache=False) as session:
        expected = session.run(feeds)
    with Session(made, devices=["hexagon:v75", "cpu"], cache=False) as session:
        found = session.run(feeds)
    return {
        name: float(np.abs(np.asarray(found[name], np.float64) - np.asarray(expected[name], np.float64)).max())
        for name in expected
    }


@pytest.mark.parametrize("kind", ["u8", "s16", *(pytest.param(kind, marks=pytest.mark.full) for kind in ("s8", "u16"))])
def test_clusters_run_as_integers_and_are_within_a_step(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lowered: list[Outcome] = []

    class Watched(Lowering):
        def run(self) -> Outcome:
            lowered.append(super().run())
            return lowered[-1]

    monkeypatch.setattr(backend, "Lowering", Watched)
    made, step = network(kind, tuple(OPERATORS))
    found = differences(made, sample(0))
    clusters = {cluster.node.name for cluster in lowered[0].clusters}
    moved = {"Transpose"}  # by the optimizer, to the integers that are stored
    assert set(OPERATORS) - clusters == FLOAT[kind] | moved
    half = 2e-3 * 4  # of what is computed in float16, the input's way into 16 bits among it
    allowed = step + (half if kind.endswith("16") else 0.0)
    assert {name: error for name, error in found.items() if error > 1.05 * allowed} == {}


@settings(max_examples=8, deadline=None)
@given(
    st.lists(st.sampled_from(sorted(set(OPERATORS) - FLOAT["s8"])), min_size=1, max_size=4, unique=True),
    st.sampled_from(["u8", "s8"]),
    st.integers(0, 1 << 20),
)
def test_quantized_operators_are_within_a_step_of_the_cpu(ops: list[str], kind: str, seed: int) -> None:
    made, step = network(kind, ops)
    assert max(differences(made, sample(seed)).values()) <= 1.05 * step


@pytest.mark.parametrize("kind", ["u8", "s16"])
def test_a_quantizer_between_real_numbers_rounds_and_cuts_off(kind: str) -> None:
    """The library drops a Quantize before a Dequantize, and with it both."""
    numpy, zero = CODES[kind]
    constants = {"s": np.asarray(np.float32(0.25)), "z": np.asarray(zero, numpy), "top": np.float32([40.0])}
    nodes = [
        NODE("Sin", ["x"], ["a"], name="sin"),
        NODE("Mul", ["a", "top"], ["b"], name="grow"),
        NODE("QuantizeLinear", ["b", "s", "z"], ["q"], name="q"),
        NODE("DequantizeLinear", ["q", "s", "z"], ["c"], name="d"),
        NODE("Cos", ["c"], ["e"], name="cos"),
        NODE("Equal", ["c", "c2"], ["same"], name="same"),
        NODE("DequantizeLinear", ["q2", "s", "z"], ["c2"], name="d2"),
        NODE("QuantizeLinear", ["b", "s", "z"], ["q2"], name="q2"),
    ]
    order = [0, 1, 2, 3, 4, 7, 6, 5]
    graph = helper.make_graph(
        [nodes[index] for index in order],
        "fake",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (8,))],
        [helper.make_tensor_value_info("c", TensorProto.FLOAT, None),
         helper.make_tensor_value_info("same", TensorProto.BOOL, None)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )  # fmt: skip
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    x = np.linspace(-1.5, 1.5, 8, dtype=np.float32)
    with Session(made, devices=["hexagon:v75"], strict=True, cache=False) as session:
        found = session.run({"x": x})
    low, high = (float(end - zero) * 0.25 for end in (np.iinfo(numpy).min, np.iinfo(numpy).max))
    assert np.allclose(found["c"] * 4, np.rint(found["c"] * 4), rtol=1e-5, atol=1e-3) and bool(np.all(found["same"]))
    np.testing.assert_allclose(found["c"], np.clip(np.sin(x) * 40, low, high), atol=0.26)
