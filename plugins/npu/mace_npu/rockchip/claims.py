"""What the simulator of rknn-toolkit2 is given: operators and forms that its operator list has for all chips."""

from __future__ import annotations

from mace_core.graph import GraphView, Node, Value
from mace_core.provider import Capability, Claim, Rejection
from mace_core.tensor import DType, TensorType
from mace_npu.rockchip.quantized import ACTIVATIONS, CONVERTERS, decline_halves, whole, why_not_converter

_LARGEST_RANK = 4

_OPSETS = range(12, 20)
"""Those that the toolkit is written for."""

OPERATORS = frozenset({
    "Add", "AveragePool", "BatchNormalization", "Clip", "Concat", "Conv", "ConvTranspose", "DepthToSpace", "Div", "Elu",
    "Flatten", "Gemm", "GlobalAveragePool", "GlobalMaxPool", "HardSigmoid", "HardSwish",
    "LeakyRelu", "MatMul", "MaxPool", "Mul", "PRelu", "Pad", "ReduceMean", "ReduceSum", "Relu", "Reshape", "Resize",
    "Sigmoid", "Slice", "Softmax", "SpaceToDepth", "Split", "Squeeze", "Sub", "Tanh", "Transpose", "Unsqueeze",
})  # fmt: skip


def capability(view: GraphView) -> Capability:
    """The nodes that the simulator is given, in one claim of which any may be taken."""
    reasons = {node: reason for node in view.nodes if (reason := why_not(view, node)) is not None}
    decline_halves(view, reasons)
    claimed = tuple(node for node in view.nodes if node not in reasons)
    return Capability(
        claims=(*whole(view, claimed), Claim(claimed)) if claimed else (),
        rejections=[Rejection(node, reason) for node, reason in reasons.items()],
    )


def why_not(view: GraphView, node: Node) -> str | None:
    """Why a node is declined; None if it is claimed."""
    if node.domain or node.op_type not in OPERATORS | CONVERTERS:
        return "rknn-toolkit2 has no such operator for every chip"
    if view.opset() not in _OPSETS:
        return f"rknn-toolkit2 reads opsets {_OPSETS[0]} to {_OPSETS[-1]}, not {view.opset()}; convert the model"
    if node.op_type in CONVERTERS and (reason := why_not_converter(view, node)):
        return reason
    if node.op_type == "Softmax" and not _is_over_last_axis(view, node):
        return "rknn-toolkit2 builds Softmax over the last axis only"
    for value in (*node.inputs, *node.outputs):
        if value is not None and (reason := _why_not_value(view, value, node.op_type in CONVERTERS)):
            return reason
    return None


def _is_over_last_axis(view: GraphView, node: Node) -> bool:
    found = None if node.inputs[0] is None else view.tensor_type(node.inputs[0])
    if found is None or found.shape is None:
        return False
    rank = len(found.shape)
    return int(node.attr("axis", -1 if view.opset() >= 13 else 1)) in (-1, rank - 1)


def _why_not_value(view: GraphView, value: Value, may_be_quantized: bool) -> str | None:
    found = view.type(value)
    if not isinstance(found, TensorType) or not found.is_concrete:
        return f"the shape of '{value.name}' is not known before the run"
    if view.constant(value) is not None:
        return None
    if 0 in found.concrete_shape:
        return f"'{value.name}' has no elements"
    if not 1 <= len(found.concrete_shape) <= _LARGEST_RANK:
        return f"'{value.name}' has {len(found.concrete_shape)} dimensions, the NPU takes one to {_LARGEST_RANK}"
    if found.dtype is not DType.FLOAT32 and not (may_be_quantized and found.dtype in ACTIVATIONS):
        return f"'{value.name}' is {found.dtype.label}; the simulator is given float32, which it computes in float16"
    return None
