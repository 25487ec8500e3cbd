"""Cases that sum, average or measure no elements at all."""

from __future__ import annotations

import math

from mace_testing.fuzzing.case import CONTRIB, OpCase

_WEIGHTS = {("", "ConvInteger"): 1, ("", "QLinearConv"): 3, (CONTRIB, "QLinearConv"): 3}
"""Which input holds a convolution's weights, (channels out, channels in, …)."""


def _shape(case: OpCase, index: int = 0) -> tuple[int, ...]:
    array = case.inputs[index] if len(case.inputs) > index else None
    return () if array is None else array.shape


def sums_nothing(case: OpCase) -> bool:
    """A product of matrices, or a convolution, each of whose elements is a sum of no products."""
    weights = _WEIGHTS.get((case.domain, case.op))
    if weights is not None:
        return 0 in _shape(case, weights)[1:]
    axis = -2 if case.op == "QGemm" and case.attr("transA", 0) else -1
    return _shape(case)[axis:][:1] == (0,)


def averages_nothing(case: OpCase) -> bool:
    """A ReduceMean over axes without elements."""
    shape = _shape(case)
    axes = case.attr("axes")
    if axes is None and len(case.inputs) > 1 and case.inputs[1] is not None:
        axes = case.inputs[1].tolist()
    return 0 in (shape[axis] for axis in axes or range(len(shape)))


def loses_nothing(case: OpCase) -> bool:
    """The mean of the losses of no places."""
    return case.attr("reduction", "mean") == "mean" and math.prod(_shape(case, 1)) == 0


def measures_nothing(case: OpCase) -> bool:
    """The range, or a part, of a tensor without elements."""
    return 0 in _shape(case)


def makes_no_step(case: OpCase) -> bool:
    """A recurrent layer of sequences without a step."""
    return _shape(case)[1 if case.attr("layout", 0) else 0] == 0


def squeezes_no_axis(case: OpCase) -> bool:
    """A Squeeze that is given a list of axes without an element."""
    if case.opset < 13:
        return bool(case.attr("axes") == [])
    return len(case.inputs) > 1 and _shape(case, 1) == (0,)


def chooses_beyond_the_axis(case: OpCase) -> bool:
    """A Compress whose condition is true behind the last element."""
    data, condition = case.inputs[0], case.inputs[1]
    if data is None or condition is None:
        return False
    axis = case.attr("axis")
    length = data.size if axis is None else data.shape[axis]
    return bool(condition[length:].any())
