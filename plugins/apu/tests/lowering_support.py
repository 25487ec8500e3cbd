"""Small models lowered without a library, and what the tests ask about the networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from mace_apu.description import Call, Operand
from mace_apu.lowering.engine import Lowered, lower
from mace_apu.lowering.winograd import Winograd
from mace_apu.neuron.constants import ExtensionOperation, Operation
from onnx import TensorProto, helper, numpy_helper

from mace_core.frontend.load import load_model
from mace_core.testing.runner import view_of

Array = npt.NDArray[Any]

LATEST = (8, 2, 0)


def node(op: str, inputs: Sequence[str], outputs: Sequence[str] = ("y",), **attributes: Any) -> onnx.NodeProto:
    """One operator."""
    return helper.make_node(op, list(inputs), list(outputs), name=f"{op.lower()}_{outputs[0]}", **attributes)


def model_of(
    nodes: Sequence[onnx.NodeProto],
    shape: Sequence[int],
    constants: Mapping[str, Array] | None = None,
    *,
    outputs: Mapping[str, int] | None = None,
    opset: int = 17,
) -> bytes:
    """A model of one float32 input ``x``; outputs (``y`` by default) by their element type."""
    graph = helper.make_graph(
        list(nodes),
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(shape))],
        [
            helper.make_tensor_value_info(name, kind, None)
            for name, kind in (outputs or {"y": TensorProto.FLOAT}).items()
        ],
        [numpy_helper.from_array(array, name) for name, array in (constants or {}).items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    made.ir_version = 9
    return bytes(made.SerializeToString())


def lowered(
    nodes: Sequence[onnx.NodeProto],
    shape: Sequence[int],
    constants: Mapping[str, Array] | None = None,
    *,
    version: tuple[int, int, int] = LATEST,
    claims_only: bool = False,
    outputs: Mapping[str, int] | None = None,
    opset: int = 17,
    winograd: Winograd | None = None,
) -> Lowered:
    """The same, lowered as it stands."""
    graph = load_model(model_of(nodes, shape, constants, outputs=outputs, opset=opset))
    view = view_of(graph, {"x": np.zeros(shape, np.float32)})
    return lower(view, version, claims_only=claims_only, winograd=winograd)


def reason(found: Lowered) -> str:
    """Why the only declined node is."""
    (text,) = found.declined.values()
    return text


def operations(found: Lowered) -> list[Operation | ExtensionOperation]:
    """What the network consists of."""
    assert not found.declined, found.declined
    return [call.operation for call in found.network.calls]


def only(found: Lowered, operation: Operation) -> Call:
    """The one operation of its kind."""
    assert not found.declined, found.declined
    (call,) = (call for call in found.network.calls if call.operation is operation)
    return call


def numbers(operands: Sequence[Operand]) -> list[Any]:
    """The contents of constant operands."""
    return [operand.data.tolist() if operand.data is not None else None for operand in operands]


def quantized_node(
    op: str,
    result: tuple[float, Any],
    source: tuple[float, Any],
    extra: Sequence[str] = (),
    before: Sequence[onnx.NodeProto] = (),
    constants: Mapping[str, Array] | None = None,
    **attributes: Any,
) -> tuple[list[onnx.NodeProto], dict[str, Array]]:
    """QuantizeLinear, DequantizeLinear, an operator, QuantizeLinear, DequantizeLinear; scales and zero points given."""
    held = {
        "sx": np.float32(source[0]), "zx": np.asarray(source[1]),
        "sy": np.float32(result[0]), "zy": np.asarray(result[1]), **(constants or {}),
    }  # fmt: skip
    nodes = [
        node("QuantizeLinear", ["x", "sx", "zx"], ["xq"]),
        node("DequantizeLinear", ["xq", "sx", "zx"], ["xd"]),
        *before,
        node(op, ["xd", *extra], ["r"], **attributes),
        node("QuantizeLinear", ["r", "sy", "zy"], ["yq"]),
        node("DequantizeLinear", ["yq", "sy", "zy"]),
    ]
    return nodes, {name: np.asarray(array) for name, array in held.items()}
