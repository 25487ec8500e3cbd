"""Functions of real numbers that QNN lacks, spelled out in those it has."""

from __future__ import annotations

import math

import numpy as np

from mace_core.tensor import DType
from mace_hexagon.description import QTensor
from mace_hexagon.lowering.context import DeclinedError, NodeContext
from mace_hexagon.lowering.elementwise import LEAST_EXPONENT, MOST_EXPONENT
from mace_hexagon.lowering.integers import Chain
from mace_hexagon.lowering.table import LOWERINGS

_ERF = (0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429)
_ERF_SLOPE = 0.3275911
"""Abramowitz and Stegun, Handbook of Mathematical Functions, 7.1.26: an error of 1.5e-7."""


class _Reals(Chain):
    """Arithmetic on the node's operand."""

    def __init__(self, context: NodeContext) -> None:
        super().__init__(context)
        if context.dtype() not in (DType.FLOAT32, DType.FLOAT16) or context.is_quantized:
            raise DeclinedError(f"{context.node.op_type} of {context.dtype().label} is not offered")
        self.order = context.order()
        self.x = context.x(0, self.order)

    def add(self, left: QTensor, right: QTensor | float) -> QTensor:
        return self.op("ElementWiseAdd", left, self._of(right))

    def subtract(self, left: QTensor | float, right: QTensor) -> QTensor:
        return self.op("ElementWiseSubtract", self._of(left), right)

    def multiply(self, left: QTensor, right: QTensor | float) -> QTensor:
        return self.op("ElementWiseMultiply", left, self._of(right))

    def divide(self, left: QTensor | float, right: QTensor) -> QTensor:
        return self.op("ElementWiseDivide", self._of(left), right)

    def exp(self, x: QTensor) -> QTensor:
        """Between where exp is 0 in half precision and where it is beyond: the library gives anything further on."""
        above = self.op("ElementWiseMaximum", x, self.number(LEAST_EXPONENT, x))
        return self.op("ElementWiseExp", self.op("ElementWiseMinimum", above, self.number(MOST_EXPONENT, x)))

    def _of(self, operand: QTensor | float) -> QTensor:
        return operand if isinstance(operand, QTensor) else self.number(operand, self.x)


def _sinh_cosh(context: NodeContext) -> None:
    it = _Reals(context)
    up, down = it.exp(it.x), it.exp(it.op("ElementWiseNeg", it.x))
    both = it.add(up, down) if context.node.op_type == "Cosh" else it.subtract(up, down)
    context.emit("ElementWiseMultiply", [both, it.number(0.5, both)], it.order)


def _area(context: NodeContext) -> None:
    """Asinh, Acosh and Atanh, as logarithms."""
    it = _Reals(context)
    name, x = context.node.op_type, it.x
    if name == "Atanh":
        quotient = it.divide(it.add(x, 1.0), it.subtract(1.0, x))
        context.emit("ElementWiseMultiply", [it.op("ElementWiseLog", quotient), it.number(0.5, x)], it.order)
        return
    size = it.op("ElementWiseAbs", x)
    root = it.op("ElementWiseSquareRoot", it.add(it.multiply(x, x), 1.0 if name == "Asinh" else -1.0))
    found = it.op("ElementWiseLog", it.add(size, root))
    if name == "Asinh":
        negative = it.test("ElementWiseLess", x, it.number(0.0, x))
        context.emit("ElementWiseSelect", [negative, it.op("ElementWiseNeg", found), found], it.order)
    else:
        context.emit("Reshape", [found], it.order)


def _arc(context: NodeContext) -> None:
    """Asin and Acos, by the arc tangent."""
    it = _Reals(context)
    x = it.x
    rest = it.op("ElementWiseMaximum", it.subtract(1.0, it.multiply(x, x)), it.number(0.0, x))
    slope = it.divide(x, it.op("ElementWiseMaximum", it.op("ElementWiseSquareRoot", rest), it.number(2.0**-14, x)))
    found = it.op("ElementWiseAtan", slope)
    if context.node.op_type == "Acos":
        context.emit("ElementWiseSubtract", [it.number(math.pi / 2, x), found], it.order)
    else:
        context.emit("Reshape", [found], it.order)


def _erf(context: NodeContext) -> None:
    it = _Reals(context)
    x = it.x
    size = it.op("ElementWiseAbs", x)
    t = it.divide(1.0, it.add(it.multiply(size, _ERF_SLOPE), 1.0))
    total = it.multiply(t, _ERF[-1])
    for factor in reversed(_ERF[:-1]):
        total = it.multiply(it.add(total, factor), t)
    fall = it.exp(it.op("ElementWiseNeg", it.multiply(size, size)))
    found = it.subtract(1.0, it.multiply(total, fall))
    negative = it.test("ElementWiseLess", x, it.number(0.0, x))
    context.emit("ElementWiseSelect", [negative, it.op("ElementWiseNeg", found), found], it.order)


def _shrink(context: NodeContext) -> None:
    """Towards zero by the bias outside of the bounds, zero inside."""
    it = _Reals(context)
    x, bound, bias = it.x, float(context.attr("lambd", 0.5)), float(context.attr("bias", 0.0))
    low = it.add(x, bias)
    high = it.subtract(x, it.number(bias, x))
    above = it.test("ElementWiseGreater", x, it.number(bound, x))
    below = it.test("ElementWiseLess", x, it.number(-bound, x))
    inner = it.op("ElementWiseSelect", below, low, it.number(0.0, x))
    context.emit("ElementWiseSelect", [above, high, inner], it.order)


def _lp_normalization(context: NodeContext) -> None:
    """Divided by the sum of sizes, or by the root of the sum of squares; zeros stay zeros."""
    it = _Reals(context)
    order = tuple(range(len(context.shape())))
    x = it.x = context.x(0)
    axis, p = int(context.attr("axis", -1)) % len(order), int(context.attr("p", 2))
    if p not in (1, 2):
        raise DeclinedError(f"LpNormalization with p {p} is not offered")
    kept = (*x.shape[:axis], 1, *x.shape[axis + 1 :])
    parts = it.op("ElementWiseAbs", x) if p == 1 else it.multiply(x, x)
    total = it.shaped("ReduceSum", (parts,), kept, x.data_type, axes=np.array([axis], np.uint32),
                      keep_dims=np.bool_(True))  # fmt: skip
    norm = total if p == 1 else it.op("ElementWiseSquareRoot", total)
    above = it.op("ElementWiseMaximum", norm, it.number(2.0**-14, norm))
    context.emit("ElementWiseDivide", [x, above], order)


def _lrn(context: NodeContext) -> None:
    _Reals(context)
    size, shape = int(context.attr("size")), context.shape()
    if size % 2 == 0 or len(shape) != 4:
        raise DeclinedError("LRN is offered for four dimensions and an odd size")
    order = (0, 2, 3, 1)
    context.emit(
        "Lrn",
        [context.x(0, order)],
        order,
        alpha=np.float32(float(context.attr("alpha", 1e-4)) / size),
        beta=np.float32(context.attr("beta", 0.75)),
        bias=np.float32(context.attr("bias", 1.0)),
        radius=np.int32(size // 2),
        region=np.uint32(0),
    )


def _reduce_prod(context: NodeContext) -> None:
    """Halves multiplied with each other, axis by axis."""
    it = _Reals(context)
    shape = context.shape()
    axes = context.integers(1) if context.has(1) else context.attr("axes")
    if not axes:
        if context.attr("noop_with_empty_axes", 0):
            raise DeclinedError("a reduction over no axes is left to other devices")
        axes = range(len(shape))
    x = context.x(0)
    for axis in {axis % len(shape) for axis in axes}:
        while x.shape[axis] > 1:
            half, size = x.shape[axis] // 2, x.shape[axis]
            parts = [_part(context, x, axis, begin, begin + half) for begin in (0, half)]
            product = it.multiply(*parts)
            if size % 2:
                last = _part(context, x, axis, size - 1, size)
                joined = (*product.shape[:axis], half + 1, *product.shape[axis + 1 :])
                product = it.shaped("Concat", (product, last), joined, x.data_type, axis=np.uint32(axis))
            x = product
    context.emit("Reshape", [x])


def _part(context: NodeContext, x: QTensor, axis: int, begin: int, end: int) -> QTensor:
    ranges = np.array([(begin, end, 1) if other == axis else (0, size, 1) for other, size in enumerate(x.shape)])
    shape = (*x.shape[:axis], end - begin, *x.shape[axis + 1 :])
    return Chain(context).shaped("StridedSlice", (x,), shape, x.data_type, ranges=ranges.astype(np.int32))


def _grid_sample(context: NodeContext) -> None:
    _Reals(context)
    if len(context.shape()) != 4:
        raise DeclinedError("GridSample is offered for pictures of two dimensions")
    modes = {"linear": 0, "bilinear": 0}  # the nearest changes where positions are rounded to float16
    paddings = {"zeros": 0, "border": 1, "reflection": 2}
    mode, padding = context.attr("mode", "linear"), context.attr("padding_mode", "zeros")
    if mode not in modes:
        raise DeclinedError(f"GridSample {mode} is not offered, or not exact in float16")
    order = (0, 2, 3, 1)
    context.emit(
        "GridSample",
        [context.x(0, order), context.x(1)],
        order,
        align_corners=np.bool_(context.attr("align_corners", 0)),
        mode=np.uint32(modes[mode]),
        padding_mode=np.uint32(paddings[padding]),
    )


LOWERINGS.add(
    {
        "Sinh": _sinh_cosh,
        "Cosh": _sinh_cosh,
        "Asinh": _area,
        "Acosh": _area,
        "Atanh": _area,
        "Asin": _arc,
        "Acos": _arc,
        "Erf": _erf,
        "Shrink": _shrink,
        "LpNormalization": _lp_normalization,
        "LRN": _lrn,
        "ReduceProd": _reduce_prod,
        "GridSample": _grid_sample,
    }
)
