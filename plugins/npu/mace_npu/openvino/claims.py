"""What OpenVINO runs on a unit.  All nodes of a graph are asked about at once, apart from each other in one model."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from mace_core.frontend.onnx.export import to_onnx
from mace_core.graph import GraphView, Node, Value
from mace_core.provider import Capability, Claim, Rejection
from mace_core.tensor import DType, TensorType
from mace_npu.subgraph_model import apart

_KEPT = frozenset(
    {DType.FLOAT32, DType.FLOAT16, DType.INT8, DType.UINT8, DType.INT16, DType.UINT16, DType.INT32, DType.BOOL}
)
"""Element types whose every value OpenVINO keeps.  64-bit integers become 32-bit ones inside, float64 becomes float."""

_INDEX_INPUTS = {
    "Gather": (1,), "GatherElements": (1,), "GatherND": (1,), "ScatterElements": (1,), "ScatterND": (1,),
    "OneHot": (0,), "Scatter": (1,), "ReverseSequence": (1,), "RoiAlign": (2,), "RotaryEmbedding": (3,),
    "TensorScatter": (2,), "MaxUnpool": (1,), "NegativeLogLikelihoodLoss": (1,), "SoftmaxCrossEntropyLoss": (1,),
    "Trilu": (1,),
}  # fmt: skip
"""Inputs that are positions in another tensor, or lengths: they fit into 32 bits."""

_INDEX_OUTPUTS = {"ArgMax": (0,), "ArgMin": (0,), "TopK": (1,), "MaxPool": (1,)}
"""Outputs that are positions."""

_NARROW = frozenset({DType.INT8, DType.UINT8, DType.INT16, DType.UINT16})

_TAKE_NARROW = frozenset({
    "ArgMax", "ArgMin", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor", "Cast", "Clip", "Concat",
    "ConvInteger", "DepthToSpace", "DequantizeLinear", "Div", "DynamicQuantizeLinear", "Equal", "Expand", "Flatten",
    "Gather", "GatherElements", "GatherND", "Greater", "GreaterOrEqual", "Identity", "Less", "LessOrEqual",
    "MatMulInteger", "Max", "MaxPool", "Min", "Mod", "Pad", "QLinearConv", "QLinearMatMul", "QuantizeLinear",
    "Reshape", "Sign", "Slice", "SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose", "Trilu", "Unsqueeze", "Where",
})  # fmt: skip
"""Operators that may read and write 8 and 16-bit integers: none of their results lies outside of the type.  In sums,
products and the like OpenVINO saturates where ONNX wraps round."""

_AXIS_FROM_THE_LEFT = {"Softmax", "LogSoftmax", "Hardmax"}
"""Operators that take all axes from theirs on as one before opset 13; OpenVINO takes that axis alone."""

_FROM_THE_LOWEST = frozenset({"ReduceMax", "ReduceMin", "MaxPool", "GlobalMaxPool"})
"""Operators of which OpenVINO begins with the lowest (or greatest) finite number: it stays where all are infinite."""

_COMPARE = frozenset({"Equal", "Greater", "GreaterOrEqual", "IsInf", "Less", "LessOrEqual"})
_HAND_ON = frozenset({"Cast", "CastLike", "Expand", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})

_OTHERWISE = {
    "Attention": "OpenVINO leaves out what bounds the window, and the scores it is asked for",
    "BitShift": "OpenVINO shifts signed numbers, and by as many bits as there are, another way",
    "DFT": "OpenVINO's transform is less exact",
    "DynamicQuantizeLinear": "OpenVINO rounds another way",
    "LpNormalization": "OpenVINO adds a constant to the norm",
    **dict.fromkeys(
        ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial"),
        "OpenVINO's random numbers are other ones",
    ),
}
"""What OpenVINO computes otherwise than ONNX says."""

_NO_RULE = re.compile(r"No conversion rule found for operations: ([^\n]*)")
_FAILED_NODE = re.compile(r"<Node\([^)]*\): (\d+)>'?:?\n?([^\n]*)")


class Unit(Protocol):
    """The side of OpenVINO."""

    def read(self, model: bytes) -> Any:
        """An ONNX model as OpenVINO converts it.

        Raises:
            RuntimeError: if it cannot.
        """

    def supported(self, model: Any) -> frozenset[str]:
        """Names of the operations of a converted model that the unit runs."""


def capability(view: GraphView, unit: Unit) -> Capability:
    """The nodes that ``unit`` runs, in one claim of which any may be taken."""
    reasons = {node: reason for node in view.nodes if (reason := why_not(view, node)) is not None}
    asked = [node for node in view.nodes if node not in reasons]
    reasons.update(_ask(view, asked, unit))
    claimed = tuple(node for node in view.nodes if node not in reasons)
    return Capability(
        claims=(Claim(claimed),) if claimed else (),
        rejections=[Rejection(node, reason) for node, reason in reasons.items()],
    )


def why_not(view: GraphView, node: Node) -> str | None:
    """Why a node is not even asked about; None if it is."""
    if node.domain:
        return f"operators of {node.domain} are not handed to OpenVINO"
    if any(True for _ in node.subgraphs()):
        return "control flow is not handed to OpenVINO"
    if node.op_type in _OTHERWISE:
        return _OTHERWISE[node.op_type]
    if node.op_type == "LSTM" and node.input(7) is not None:
        return "OpenVINO leaves the peepholes out"
    if reason := _why_not_form(view, node):
        return reason
    if node.op_type not in _TAKE_NARROW:
        for value in (*node.inputs, *node.outputs):
            found = None if value is None else view.tensor_type(value)
            if value is not None and found is not None and found.dtype in _NARROW:
                return f"OpenVINO's arithmetic saturates, and '{value.name}' is {found.dtype.label}"
    for values, indices in ((node.inputs, _INDEX_INPUTS), (node.outputs, _INDEX_OUTPUTS)):
        for position, value in enumerate(values):
            if value is not None and (reason := _why_not_value(view, value, position in indices.get(node.op_type, ()))):
                return reason
    return None


def _why_not_form(view: GraphView, node: Node) -> str | None:
    """What OpenVINO passes over in an attribute or an input."""
    if node.op_type in _AXIS_FROM_THE_LEFT and view.opset() < 13:
        rank = len(_shape(view, node.inputs[0]))
        if node.attr("axis", 1) not in (-1, rank - 1):
            return "before opset 13, OpenVINO takes one axis for all from it on"
    if node.op_type == "RoiAlign" and node.attr("mode", "avg") != "avg":
        return "OpenVINO takes another maximum"
    if node.op_type == "SpaceToDepth" and node.attr("mode", "DCR") != "DCR":
        return f"OpenVINO knows no mode {node.attr('mode')}"
    if node.op_type == "LpPool" and node.attr("ceil_mode", 0):
        return "OpenVINO counts what a window that is rounded up has beyond the input"
    if node.op_type == "AveragePool" and node.attr("ceil_mode", 0) and node.attr("count_include_pad", 0):
        return "OpenVINO counts what a window that is rounded up has beyond the padding"
    if node.op_type == "QuantizeLinear" and (reason := _why_not_quantize(view, node)):
        return reason
    if node.op_type in _FROM_THE_LOWEST and _is_compared(view, node.outputs[0]):
        return "OpenVINO makes a finite number of nothing but infinite ones, and the result is compared"
    if node.op_type == "Pad" and node.input(2) is not None and view.constant(node.input(2)) is None:
        return "OpenVINO pads with zeros unless the value is constant"
    return _why_not_resize(view, node) if node.op_type in ("Resize", "Upsample") else None


def _why_not_quantize(view: GraphView, node: Node) -> str | None:
    if view.constant(node.input(1)) is None and node.inputs[1] not in view.inputs:
        return "OpenVINO rounds another way where the scale is computed"
    exact, stored = node.inputs[0], node.outputs[0]
    found = None if stored is None else view.tensor_type(stored)
    if stored is None or found is None:
        return None
    if any(user.op_type == "DequantizeLinear" for user in view.users(stored)):
        is_wide = found.dtype in (DType.INT16, DType.UINT16)
        return "OpenVINO leaves out the rounding to 16 bits, and the limits of the range" if is_wide else None
    zero = view.constant(node.input(2))
    if exact in view.inputs and zero is not None and (zero.numpy().astype(np.int64) % 2).any():
        return "OpenVINO rounds halves another way where the zero point is odd"
    return None


def _is_compared(view: GraphView, value: Value | None) -> bool:
    """Whether a comparison reads a value, perhaps in another form."""
    pending = [value]
    while pending:
        for user in () if (read := pending.pop()) is None else view.users(read):
            if user.op_type in _COMPARE:
                return True
            if user.op_type in _HAND_ON:
                pending += user.outputs
    return False


def _why_not_resize(view: GraphView, node: Node) -> str | None:
    for name in ("antialias", "exclude_outside"):
        if node.attr(name, 0):
            return f"OpenVINO passes over {name}"
    if node.attr("keep_aspect_ratio_policy", "stretch") != "stretch":
        return "OpenVINO stretches without regard to the aspect ratio"
    scales = view.constant(node.input(2 if node.op_type == "Resize" else 1))
    if scales is None or not scales.size:
        return None
    before, after = _shape(view, node.inputs[0]), _shape(view, node.outputs[0])
    given = dict(enumerate(scales.numpy().tolist()))
    axes = [axis % len(before) for axis in node.attr("axes", range(len(before)))]
    if any(before[axis] * given[index] != after[axis] for index, axis in enumerate(axes)):
        return "the factors give no whole size, and OpenVINO computes with the size"
    return None


def _shape(view: GraphView, value: Value | None) -> tuple[int, ...]:
    found = None if value is None else view.tensor_type(value)
    return () if found is None or not found.is_concrete else found.concrete_shape


def _why_not_value(view: GraphView, value: Value, is_index: bool) -> str | None:
    found = view.type(value)
    if not isinstance(found, TensorType):
        return f"'{value.name}' is not a tensor"
    if not found.is_concrete:
        return f"the shape of '{value.name}' is not known before the run"
    if view.constant(value) is not None:
        return None
    if 0 in found.concrete_shape:
        return f"'{value.name}' has no elements"
    if found.dtype in _KEPT or is_index:
        return None
    if found.dtype in (DType.INT64, DType.UINT64, DType.UINT32, DType.FLOAT64):
        return f"OpenVINO does not keep every value of '{value.name}', which is {found.dtype.label}"
    return f"'{value.name}' is {found.dtype.label}, which is not handed to OpenVINO"


def _ask(view: GraphView, nodes: Sequence[Node], unit: Unit) -> dict[Node, str]:
    """Why OpenVINO refuses some of ``nodes``."""
    reasons: dict[Node, str] = {}
    left = list(nodes)
    while left:
        graph = apart(view, left)
        try:
            model = unit.read(to_onnx(graph).SerializeToString())
        except RuntimeError as error:
            refused = _blamed(left, str(error))
            if not refused:
                if len(left) == 1:
                    reasons[left[0]] = f"OpenVINO cannot convert it: {_first_line(str(error))}"
                    return reasons
                half = len(left) // 2
                return {**reasons, **_ask(view, left[:half], unit), **_ask(view, left[half:], unit)}
            reasons.update(refused)
            left = [node for node in left if node not in refused]
            continue
        supported = unit.supported(model)
        results = [(node, value) for node in left for value in node.outputs if value is not None]
        for (node, value), output in zip(results, model.outputs, strict=True):
            reason = _objection(view.shape(value), output, supported)
            if reason is not None:
                reasons.setdefault(node, reason)
        return reasons
    return reasons


def _blamed(nodes: Sequence[Node], message: str) -> dict[Node, str]:
    """Whom OpenVINO names in an error: operators without a rule, nodes whose rule failed."""
    reasons: dict[Node, str] = {}
    if rules := _NO_RULE.search(message):
        without = {name.strip().rpartition("-")[0] for name in rules[1].split(",")}
        reasons.update({node: "OpenVINO has no rule for this operator" for node in nodes if node.op_type in without})
    for number, line in _FAILED_NODE.findall(message):
        if int(number) < len(nodes):
            reasons[nodes[int(number)]] = f"OpenVINO cannot convert it: {line.strip() or 'no reason is given'}"
    return reasons


def _objection(shape: tuple[int, ...], output: Any, supported: frozenset[str]) -> str | None:
    """Why a result, converted, is not what the unit can compute."""
    made = output.partial_shape
    if made.is_dynamic or tuple(made.to_shape()) != shape:
        return f"OpenVINO makes it {made}, and it is {list(shape)}"
    operation = output.get_node()
    if operation.get_type_name() == "Result":
        operation = operation.inputs()[0].get_source_output().get_node()
    if operation.get_type_name() == "Parameter":
        return "there is nothing to compute: OpenVINO would hand on the input"
    missing = _unsupported(operation, supported)
    return None if missing is None else f"this unit does not run OpenVINO's {missing}"


def _unsupported(result: Any, supported: frozenset[str]) -> str | None:
    """The type of an operation between a result and the parameters that is not among those supported."""
    pending, seen = [result], set()
    while pending:
        operation = pending.pop()
        name = operation.get_friendly_name()
        if name in seen:
            continue
        seen.add(name)
        if name not in supported and operation.get_type_name() not in ("Parameter", "Constant", "Result"):
            return str(operation.get_type_name())
        pending += [port.get_source_output().get_node() for port in operation.inputs()]
    return None


def _first_line(message: str) -> str:
    """The line of an error of OpenVINO's that tells what happened."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    telling = [line for line in lines if not line.startswith(("Exception from", "Check '", "While validating"))]
    return (telling or lines or ["no reason is given"])[0]
