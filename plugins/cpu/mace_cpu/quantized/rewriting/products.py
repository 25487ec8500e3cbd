"""Convolutions and products of quantized numbers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mace_core.graph import Attribute, Node, Value
from mace_core.tensor import DType
from mace_cpu.quantized.integer_form import BYTES, INTEGERS, NUMBERS, Quantized
from mace_cpu.quantized.rewriting.bounds import FREE, as_attributes
from mace_cpu.quantized.rewriting.graph import Rewriting
from mace_cpu.quantized.rewriting.results import Wanted

BIAS_TOLERANCE = 1e-6
"""How far the scale of a bias may be from the product of the other two, which is rounded."""


def factor(
    rewriting: Rewriting,
    node: Node,
    index: int,
    what: str,
    axis: int | None = None,
    allowed: frozenset[DType] = NUMBERS,
) -> Quantized | str:
    """The quantized form of an input, with one scale for all or one per entry of ``axis``; a reason if it has none."""
    value = node.input(index)
    known = None if value is None else rewriting.quantized.get(value)
    if value is None or known is None:
        name = "" if value is None else f" '{value.name}'"
        return f"its {what}{name} is not quantized"
    encoding = known.encoding
    if not encoding.is_sound:
        return f"a scale of its {what} is not a positive number"
    if encoding.dtype not in allowed:
        bits = " or ".join(map(str, sorted({kind.bits for kind in allowed})))
        return f"its {what} is {encoding.dtype.label}, not of {bits} bits"
    if encoding.axis is not None and encoding.axis != axis:
        return f"the scales of its {what} are those of axis {encoding.axis}"
    return known


def convolution(rewriting: Rewriting, node: Node, wanted: Wanted) -> Value | str:
    is_transposed = node.op_type == "ConvTranspose"
    group = int(node.attr("group", 1))
    x = factor(rewriting, node, 0, "data")
    w = factor(rewriting, node, 1, "weight", 1 if is_transposed and group == 1 else 0, BYTES)
    for found in (x, w):
        if isinstance(found, str):
            return found
    assert isinstance(x, Quantized)
    assert isinstance(w, Quantized)
    shape = rewriting.shape(w.value)
    if is_transposed and w.encoding.axis == 0:
        return "the scales of its weight are those of input channels"
    bias = bias_of(rewriting, node.input(2), x, w, shape[1] * group if is_transposed else shape[0])
    if isinstance(bias, str):
        return bias
    is_standard = not (is_transposed or wanted.is_real) and wanted.bounds == FREE and _is_whole(rewriting, bias)
    is_standard = is_standard and x.encoding.dtype in BYTES and wanted.encoding.dtype in BYTES
    domain = "" if is_standard else INTEGERS
    op_type = "QLinearConvTranspose" if is_transposed else "QLinearConv"
    inputs = [*x.inputs, *w.inputs, *wanted.ending, *([] if bias is None else [bias])]
    attributes = {**node.attributes, **({} if is_standard else as_attributes(wanted.bounds))}
    return wanted.make(rewriting, op_type, inputs, node, domain=domain, attributes=attributes)


def matmul(rewriting: Rewriting, node: Node, wanted: Wanted, bias: Value | None = None) -> Value | str:
    """``bias``: a constant along the last axis, if one is added to the product."""
    right = node.input(1)
    rank = 0 if right is None else len(rewriting.shape(right))
    a, b = factor(rewriting, node, 0, "left factor"), factor(rewriting, node, 1, "right factor", rank - 1, BYTES)
    for found in (a, b):
        if isinstance(found, str):
            return found
    assert isinstance(a, Quantized)
    assert isinstance(b, Quantized)
    if b.encoding.axis is not None and rank != 2:
        return "the right factor has scales per column and is not one matrix"
    columns = rewriting.shape(b.value)[-1] if rank > 1 else 1
    added = bias_of(rewriting, bias, a, b, columns)
    if isinstance(added, str):
        return added
    is_standard = wanted.bounds == FREE and added is None and not wanted.is_real
    is_standard = is_standard and a.encoding.dtype in BYTES and wanted.encoding.dtype in BYTES
    inputs = [*a.inputs, *b.inputs, *wanted.ending, *([] if added is None else [added])]
    return wanted.make(
        rewriting,
        "QLinearMatMul",
        inputs,
        node,
        domain="" if is_standard else INTEGERS,
        attributes=as_attributes(wanted.bounds),
    )


def gemm(rewriting: Rewriting, node: Node, wanted: Wanted) -> Value | str:
    if node.attr("transA", 0) or node.attr("alpha", 1.0) != 1.0:
        return "its left factor is transposed, or its product is scaled"
    if node.input(2) is not None and node.attr("beta", 1.0) != 1.0:
        return "its bias is scaled"
    is_turned = bool(node.attr("transB", 0))
    a = factor(rewriting, node, 0, "left factor")
    b = factor(rewriting, node, 1, "right factor", 0 if is_turned else 1, BYTES)
    for found in (a, b):
        if isinstance(found, str):
            return found
    assert isinstance(a, Quantized)
    assert isinstance(b, Quantized)
    bias = bias_of(rewriting, node.input(2), a, b, rewriting.shape(b.value)[0 if is_turned else 1])
    if isinstance(bias, str):
        return bias
    attributes: dict[str, Attribute] = {key: value for key, value in node.attributes.items() if key == "transB"}
    attributes |= as_attributes(wanted.bounds)
    inputs = [*a.inputs, *b.inputs, bias, *wanted.ending]
    return wanted.make(rewriting, "QGemm", inputs, node, domain=INTEGERS, attributes=attributes)


def bias_of(rewriting: Rewriting, value: Value | None, x: Quantized, w: Quantized, count: int) -> Value | str | None:
    """The bias as an input of an integer node: int32 in steps of the products if it is so given, else float32.

    A reason where it is not a constant of ``count`` elements.
    """
    if value is None:
        return None
    known = rewriting.quantized.get(value)
    content = None if known is None else rewriting.view.constant(known.value)
    steps = np.float32(x.encoding.scales[0]) * np.asarray(w.encoding.scales, np.float32)
    if known is not None and content is not None and content.size == count:
        scales = np.asarray(known.encoding.scales, np.float32)
        if (
            known.encoding.dtype is DType.INT32
            and not any(known.encoding.zeros)
            and len(content.shape) == 1
            and np.allclose(scales, steps, rtol=BIAS_TOLERANCE, atol=0)
        ):
            return known.value
        return _as_float(rewriting, (content.numpy().reshape(-1) - _zeros(known)) * scales)
    real = rewriting.real(value)
    if real is None:
        return f"its bias '{value.name}' is not known before the run"
    if real.size not in (1, count) or (real.size == count and real.shape[-1] != count):
        return f"its bias '{value.name}' is not one number per channel or column"
    return _as_float(rewriting, np.broadcast_to(real.reshape(-1), (count,)))


def _zeros(known: Quantized) -> npt.NDArray[np.int64]:
    return np.asarray(known.encoding.zeros, np.int64)


def _as_float(rewriting: Rewriting, content: npt.NDArray[np.generic]) -> Value:
    return rewriting.constant(content.astype(np.float32), "bias")


def _is_whole(rewriting: Rewriting, bias: Value | None) -> bool:
    return bias is None or rewriting.dtype(bias) is DType.INT32
