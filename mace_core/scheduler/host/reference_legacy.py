"""Operators, mostly old versions, that onnx.reference takes for something else; without this it would answer wrongly.

Each is written in terms of operators that it has right.
"""

from __future__ import annotations

from onnx import NodeProto, helper

from mace_core.graph import Node

FLATTENING = frozenset({"Softmax", "LogSoftmax", "Hardmax"})
"""Before opset 13 these worked on a matrix: all axes from ``axis`` on together."""

AXIS_BROADCASTING = frozenset({"Add", "Sub", "Mul", "Div", "Pow", "And", "Or", "Xor", "Equal", "Greater", "Less"})
"""Before opset 7 these aligned their second operand at an ``axis``."""


def legacy_objection(node: Node, opset: int) -> str | None:
    """Why an old form is not run; None where it is, or where the form is not an old one."""
    if node.domain == "" and opset < 7 and node.op_type in AXIS_BROADCASTING and "axis" in node.attributes:
        return f"broadcasting along an axis as in opset {opset} is not run; convert the model to opset 7 or newer"
    return None


def modern_form(node: Node, proto: NodeProto, opset: int) -> tuple[list[NodeProto], int] | None:
    """Nodes that compute what ``proto`` (inputs ``i0 …``, outputs ``o0 …``) meant, and the opset they are of.

    None where onnx.reference has the version right.
    """
    if node.domain != "":
        return None
    if node.op_type in FLATTENING and opset < 13:
        return _flattened(proto, int(node.attr("axis", 1))), 14
    if node.op_type == "BatchNormalization" and 7 <= opset < 14 and not any(proto.output[1:]):
        return [_inference_normalization(proto)], 15
    if node.op_type == "Resize" and opset == 10:
        return [_resize(proto)], 13
    if node.op_type == "RoiAlign" and opset < 16:
        changed = NodeProto()
        changed.CopyFrom(proto)
        changed.attribute.append(helper.make_attribute("coordinate_transformation_mode", "output_half_pixel"))
        return [changed], 16
    if node.op_type == "Scatter":
        changed = NodeProto()
        changed.CopyFrom(proto)
        changed.op_type = "ScatterElements"  # its name since opset 11
        return [changed], 11
    if node.op_type == "Slice" and len(proto.input) > 4 and opset >= 10:
        return _slice(proto), 18
    return None


def _flattened(proto: NodeProto, axis: int) -> list[NodeProto]:
    return [
        helper.make_node("Shape", ["i0"], ["shape"]),
        helper.make_node("Flatten", ["i0"], ["matrix"], axis=axis),
        helper.make_node(proto.op_type, ["matrix"], ["result"], axis=1),
        helper.make_node("Reshape", ["result", "shape"], ["o0"], allowzero=1),
    ]


def _slice(proto: NodeProto) -> list[NodeProto]:
    """Starts before the first element are moved onto it; the reference leaves them to numpy, which, stepping backwards,
    takes nothing then (seen in onnx 1.23)."""
    nodes = [helper.make_node("Shape", ["i0"], ["shape"])]
    axes = proto.input[3]
    if not axes:
        axes = "axes"
        nodes += [
            helper.make_node("Constant", [], ["zero"], value_int=0),
            helper.make_node("Constant", [], ["one"], value_int=1),
            helper.make_node("Size", [proto.input[1]], ["count"]),
            helper.make_node("Range", ["zero", "count", "one"], [axes]),
        ]
    changed = NodeProto()
    changed.CopyFrom(proto)
    changed.input[1] = "starts"
    return [
        *nodes,
        helper.make_node("Gather", ["shape", axes], ["sizes"]),
        helper.make_node("Neg", ["sizes"], ["first"]),
        helper.make_node("CastLike", ["first", proto.input[1]], ["earliest"]),
        helper.make_node("Max", [proto.input[1], "earliest"], ["starts"]),
        changed,
    ]


def _resize(proto: NodeProto) -> NodeProto:
    """Opset 10 knew scales only, with what is now called asymmetric coordinates, rounded down."""
    changed = NodeProto()
    changed.CopyFrom(proto)
    del changed.input[:]
    changed.input.extend(["i0", "", "i1"])
    changed.attribute.append(helper.make_attribute("coordinate_transformation_mode", "asymmetric"))
    changed.attribute.append(helper.make_attribute("nearest_mode", "floor"))
    return changed


def _inference_normalization(proto: NodeProto) -> NodeProto:
    """With one output these versions mean inference.

    The reference's implementation of them normalizes with statistics of the batch as soon as ``momentum`` is set, which
    its default always does (seen in onnx 1.23).
    """
    changed = NodeProto()
    changed.CopyFrom(proto)
    del changed.attribute[:], changed.output[1:]
    changed.attribute.extend(attribute for attribute in proto.attribute if attribute.name == "epsilon")
    changed.attribute.append(helper.make_attribute("training_mode", 0))
    return changed
