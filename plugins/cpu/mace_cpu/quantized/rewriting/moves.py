"""Operators that move numbers without changing them: what they move may as well be quantized.

Dequantizing after the move gives the same floats as before it, and quantizing before the move the same numbers as after
it.  Taking the largest of some numbers is of the same kind, since scales are positive.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from mace_core.graph import Attribute, Node, Value
from mace_core.tensor import DType
from mace_cpu.quantized.integer_form import Encoding, Quantized
from mace_cpu.quantized.rewriting.graph import Rewriting, integer

SHAPED = frozenset({"Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity"})
"""The result is the first input in the same order."""

MOVES = SHAPED | {
    "DepthToSpace", "Dropout", "Expand", "Gather", "GatherElements", "GatherND", "GlobalMaxPool", "MaxPool", "Pad",
    "ReduceMax", "ReduceMin", "Resize", "Slice", "SpaceToDepth", "Split", "Tile", "Transpose", "Upsample",
}  # fmt: skip
"""Operators that move their first input."""

SEVERAL = frozenset({"Concat", "Max", "Min"})
"""Operators that take their results from several inputs, which have to be quantized alike."""

BYTES = frozenset({DType.INT8, DType.UINT8})

PAD_VALUE_IS_INPUT_SINCE = 11


def sources_of(node: Node) -> Sequence[Value | None]:
    """The inputs whose numbers are moved; none where the node does something else."""
    if node.domain or not _only_moves(node):
        return ()
    if node.op_type in SEVERAL:
        return node.inputs
    return node.inputs[:1] if node.op_type in MOVES else ()


def _only_moves(node: Node) -> bool:
    if node.op_type in ("MaxPool", "Dropout") and any(value is not None for value in node.outputs[1:]):
        return False
    if node.op_type in ("Resize", "Upsample"):
        cut = node.attr("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize"
        return node.attr("mode", "nearest") == "nearest" and not cut
    return True


def emit_move(
    rewriting: Rewriting, node: Node, sources: Sequence[Value], encoding: Encoding, results: Sequence[Value | None]
) -> str | None:
    """Append ``node`` on quantized numbers; the reason if that cannot be done."""
    inputs: list[Value | None] = [rewriting.current(value) for value in node.inputs]
    inputs[: len(sources)] = sources
    attributes: Mapping[str, Attribute] = node.attributes
    if node.op_type == "Pad":
        found = _padded(rewriting, node, inputs, encoding)
        if isinstance(found, str):
            return found
        attributes = found
    elif node.op_type == "Dropout":
        return rewriting.add("Identity", inputs[:1], results[:1], [node])
    return rewriting.add(node.op_type, inputs, results, [node], attributes=attributes)


def _padded(
    rewriting: Rewriting, node: Node, inputs: list[Value | None], encoding: Encoding
) -> Mapping[str, Attribute] | str:
    """Attributes, and ``inputs`` changed, so that what is padded with is quantized; a reason if it has no step."""
    if node.attr("mode", "constant") != "constant":
        return node.attributes
    as_input = rewriting.view.opset() >= PAD_VALUE_IS_INPUT_SINCE
    if as_input:
        given = node.input(2)
        real = 0.0 if given is None else rewriting.number(given)
    else:
        real = float(node.attr("value", 0.0))
    if real is None:
        return "what it pads with is not known before the run"
    steps = encoding.steps(real)
    if np.float32(steps - encoding.zeros[0]) * np.float32(encoding.scales[0]) != np.float32(real):
        return f"it pads with {real:g}, which is no step of its input"
    if not as_input:
        return "before opset 11 it pads floats alone"
    inputs += [None] * (3 - len(inputs))
    inputs[2] = rewriting.constant(np.array(steps, encoding.dtype.numpy), "padding")
    return node.attributes


def move_down(rewriting: Rewriting, node: Node) -> bool:
    """Move quantized numbers instead of the floats they stand for, and dequantize them then; whether it was done."""
    sources = sources_of(node)
    known = [rewriting.quantized[value] for value in sources if value in rewriting.quantized]
    if not known or len(known) != len(sources):
        return False
    first = known[0]
    if first.encoding.dtype in BYTES and any(rewriting.number(value) is not None for value in sources[1:]):
        return False  # a function of one byte: a table, which becomes part of what computes the byte
    if any(other.encoding != first.encoding for other in known) or not first.encoding.is_sound:
        return False
    if first.encoding.axis is not None or rewriting.view.constant(first.value) is not None:
        return _move_weights(rewriting, node, first)
    if not all(rewriting.is_concrete(value) for value in node.outputs if value is not None):
        return False
    dtype = first.encoding.dtype
    results = [None if value is None else rewriting.like(value, dtype) for value in node.outputs]
    reason = emit_move(rewriting, node, [one.value for one in known], first.encoding, results)
    if reason is not None:
        rewriting.refused[node] = reason
        return False
    for real, result in zip(node.outputs, results, strict=True):
        if real is not None and result is not None:
            dequantize(rewriting, Quantized(result, first.encoding, first.scale, first.zero), real, node)
    return True


def dequantize(rewriting: Rewriting, numbers: Quantized, real: Value, node: Node) -> None:
    """Append the DequantizeLinear that makes ``real``, a result of ``node``, of ``numbers``."""
    axis = numbers.encoding.axis
    attributes = {} if axis is None else {"axis": integer(axis)}
    rewriting.add_border(node, numbers, real, attributes)
    rewriting.quantized[real] = numbers


def _move_weights(rewriting: Rewriting, node: Node, known: Quantized) -> bool:
    """Constants are moved now, as far as that is simple."""
    content, result = rewriting.view.constant(known.value), node.output(0)
    if content is None or result is None or content.dtype not in _PLAIN or len(sources_of(node)) != 1:
        return False
    array, encoding = content.numpy(), known.encoding
    if node.op_type == "Transpose":
        order = [int(axis) for axis in node.attr("perm") or reversed(range(array.ndim))]
        array = array.transpose(order)
        axis = None if encoding.axis is None else order.index(encoding.axis)
    elif node.op_type in SHAPED and encoding.axis is None and rewriting.is_concrete(result):
        array, axis = array.reshape(rewriting.shape(result)), None
    else:
        return False
    moved = Quantized(
        rewriting.constant(array, known.value.name),
        Encoding(encoding.dtype, encoding.scales, encoding.zeros, axis),
        known.scale,
        known.zero,
    )
    dequantize(rewriting, moved, result, node)
    return True


_PLAIN = frozenset({DType.INT8, DType.UINT8, DType.INT16, DType.UINT16, DType.INT32})


def move_up(
    rewriting: Rewriting,
    node: Node,
    real: Value,
    encoding: Encoding,
    quantize: Callable[[Value], Value | str],
    into: Value | None,
) -> Value | str:
    """The quantized form of ``real``, a result of ``node``, by quantizing what is moved.

    Args:
        quantize: gives the quantized form of a float, or the reason why there is none.
        into: the value to make, if it exists already.
    """
    sources: list[Value] = []
    for value in sources_of(node):
        assert value is not None
        found = quantize(value)
        if isinstance(found, str):
            return found
        sources.append(found)
    result = into or rewriting.like(real, encoding.dtype)
    results = [result if value is real else None for value in node.outputs]
    if node.op_type != "Split":
        results = results[:1]
    elif any(value is not None for value in results if value is not result) or len(node.outputs) > 1:
        return "it splits what is not quantized"
    return emit_move(rewriting, node, sources, encoding, results) or result
