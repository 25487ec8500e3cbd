"""Operators of StableHLO that files may hold beside the builtins: those that mean what a builtin means."""

from __future__ import annotations

import numpy as np

from mace_core.frontend.tflite.operation import Operation
from mace_core.frontend.tflite.operators.indexing import replace_part
from mace_core.frontend.tflite.registry import converter
from mace_core.graph import Value
from mace_core.tensor import DType

_SAME_NAME = {
    "STABLEHLO_ABS": "Abs",
    "STABLEHLO_ADD": "Add",
    "STABLEHLO_COSINE": "Cos",
    "STABLEHLO_DIVIDE": "Div",
    "STABLEHLO_EXPONENTIAL": "Exp",
    "STABLEHLO_FLOOR": "Floor",
    "STABLEHLO_LOG": "Log",
    "STABLEHLO_LOGISTIC": "Sigmoid",
    "STABLEHLO_MAXIMUM": "Max",
    "STABLEHLO_MINIMUM": "Min",
    "STABLEHLO_MULTIPLY": "Mul",
    "STABLEHLO_NEGATE": "Neg",
    "STABLEHLO_POWER": "Pow",
    "STABLEHLO_SUBTRACT": "Sub",
    "STABLEHLO_TANH": "Tanh",
}


@converter(*_SAME_NAME)
def same(op: Operation) -> None:
    op.finish(op.emit(_SAME_NAME[op.file.builtin], [op.real(index) for index in range(op.count)]))


@converter("STABLEHLO_AND", "STABLEHLO_OR")
def bits(op: Operation) -> None:
    """Of truth values, or of the bits of whole numbers."""
    word = "And" if op.file.builtin == "STABLEHLO_AND" else "Or"
    kind = word if op.dtype(0) is DType.BOOL else f"Bitwise{word}"
    op.keep(op.emit(kind, [op.stored(0), op.stored(1)]))


@converter("STABLEHLO_RSQRT")
def reciprocal_root(op: Operation) -> None:
    op.finish(op.emit("Reciprocal", [op.emit("Sqrt", [op.real(0)])]))


@converter("STABLEHLO_CBRT")
def cube_root(op: Operation) -> None:
    x = op.real(0)
    root = op.emit("Pow", [op.emit("Abs", [x]), op.like(1 / 3)])
    op.finish(op.emit("Mul", [op.emit("Sign", [x]), root]))


@converter("STABLEHLO_REMAINDER")
def remainder(op: Operation) -> None:
    """With the sign of the dividend, as C has it."""
    op.finish(op.emit("Mod", [op.real(0), op.real(1)], {"fmod": 1}))


@converter("STABLEHLO_SELECT")
def select(op: Operation) -> None:
    op.keep(op.emit("Where", [op.stored(0), op.stored(1), op.stored(2)]))


@converter("STABLEHLO_CLAMP")
def clamp(op: Operation) -> None:
    """Inputs: the least, the value, the greatest."""
    op.finish(op.emit("Min", [op.emit("Max", [op.real(1), op.real(0)]), op.real(2)]))


@converter("STABLEHLO_RESHAPE")
def reshape(op: Operation) -> None:
    shape = op.number([-1 if size is None else size for size in op.result_shape()])
    op.keep(op.emit("Reshape", [op.stored(0), shape]))


@converter("STABLEHLO_CONVERT")
def convert(op: Operation) -> None:
    op.keep(op.cast(op.stored(0), op.result_dtype()))


@converter("STABLEHLO_CONCATENATE", options="StablehloConcatenateOptions")
def concatenate(op: Operation) -> None:
    axis = op.axis(op.option("Dimension"), op.rank(0))
    op.keep(op.emit("Concat", [op.stored(index) for index in range(op.count)], {"axis": axis}))


@converter("STABLEHLO_TRANSPOSE", options="StablehloTransposeOptions")
def transpose(op: Operation) -> None:
    op.keep(op.emit("Transpose", [op.stored(0)], {"perm": op.option_list("Permutation")}))


@converter("STABLEHLO_SLICE", options="StablehloSliceOptions")
def cut(op: Operation) -> None:
    starts, ends, steps = (op.option_list(name) for name in ("StartIndices", "LimitIndices", "Strides"))
    if not len(starts) == len(ends) == len(steps) == op.rank(0):
        raise op.error(f"has slices {starts}, {ends}, {steps} of {op.rank(0)} axes")
    lists = [op.number(numbers) for numbers in (starts, ends, list(range(len(starts))), steps)]
    op.keep(op.emit("Slice", [op.stored(0), *lists]))


@converter("STABLEHLO_BROADCAST_IN_DIM", options="StablehloBroadcastInDimOptions")
def broadcast(op: Operation) -> None:
    """Axes of the input become those listed of the result; others are repeated."""
    places, shape = op.option_list("BroadcastDimensions"), op.result_shape()
    if len(places) != op.rank(0) or None in shape or any(not 0 <= place < len(shape) for place in places):
        raise op.unsupported(f"puts axes at {places} of {list(shape)}")
    sizes = [1] * len(shape)
    for place, size in zip(places, op.shape(0), strict=True):
        sizes[place] = -1 if size is None else size
    spread = op.emit("Reshape", [op.stored(0), op.number(sizes)])
    op.keep(op.emit("Expand", [spread, op.number([size for size in shape if size is not None])]))


_COMPARISONS = {0: "Equal", 1: "Equal", 2: "GreaterOrEqual", 3: "Greater", 4: "LessOrEqual", 5: "Less"}


@converter("STABLEHLO_COMPARE", options="StablehloCompareOptions")
def compare(op: Operation) -> None:
    way = op.option("ComparisonDirection")
    if way not in _COMPARISONS:
        raise op.unsupported(f"compares in way {way}")
    found = op.emit(_COMPARISONS[way], [op.stored(0), op.stored(1)])
    op.keep(op.emit("Not", [found]) if way == 1 else found)


@converter("STABLEHLO_IOTA", options="StablehloIotaOptions")
def numbers(op: Operation) -> None:
    """Each element is its own place along one axis."""
    shape, axis = op.result_shape(), op.option("IotaDimension")
    sizes = [size for size in shape if size is not None]
    if len(sizes) < len(shape) or not 0 <= axis < len(shape):
        raise op.unsupported(f"counts along axis {axis} of {list(shape)}")
    counted = op.emit("Range", [op.number(bound, op.result_dtype().numpy) for bound in (0, sizes[axis], 1)])
    row = op.emit("Reshape", [counted, op.number([-1 if at == axis else 1 for at in range(len(sizes))])])
    op.keep(op.emit("Expand", [row, op.number(sizes)]))


@converter("STABLEHLO_PAD", options="StablehloPadOptions")
def pad(op: Operation) -> None:
    """At the ends; negative numbers cut off."""
    low, high, between = (op.option_list(name) for name in ("EdgePaddingLow", "EdgePaddingHigh", "InteriorPadding"))
    if any(between):
        raise op.unsupported("pads between elements")
    value = op.emit("Reshape", [op.stored(1), op.number([])])
    op.keep(op.emit("Pad", [op.stored(0), op.number([*low, *high]), value]))


@converter("STABLEHLO_DOT_GENERAL", options="StablehloDotGeneralOptions")
def dot(op: Operation) -> None:
    """Products over the contracting axes, for each index along the batch axes: as one product of matrices."""
    sides = []
    for index, side in enumerate(("Lhs", "Rhs")):
        batch, inner = op.option_list(f"{side}BatchingDimensions"), op.option_list(f"{side}ContractingDimensions")
        shape = op.shape(index)
        if any(not 0 <= axis < len(shape) for axis in (*batch, *inner)) or None in shape:
            raise op.unsupported(f"multiplies along {inner} with batches {batch} of {list(shape)}")
        free = [axis for axis in range(len(shape)) if axis not in batch and axis not in inner]
        sizes = [int(size) for size in shape if size is not None]
        order = [*batch, *free, *inner] if index == 0 else [*batch, *inner, *free]
        turned = op.emit("Transpose", [op.real(index)], {"perm": order})
        outer = [int(np.prod([sizes[axis] for axis in axes])) for axes in (free, inner)]
        matrix = [*(sizes[axis] for axis in batch), *(outer if index == 0 else reversed(outer))]
        sides.append(op.emit("Reshape", [turned, op.number(matrix)]))
    product = op.emit("MatMul", sides)
    op.finish(op.emit("Reshape", [product, op.number([-1 if s is None else s for s in op.result_shape()])]))


@converter("STABLEHLO_DYNAMIC_SLICE", options="StablehloDynamicSliceOptions")
def moving_cut(op: Operation) -> None:
    """A part of a given size; where it would not fit, it is moved inside."""
    sizes = op.option_list("SliceSizes")
    if len(sizes) != op.rank(0) or op.count != op.rank(0) + 1:
        raise op.error(f"cuts {sizes} from {op.rank(0)} axes at {op.count - 1} places")
    if not sizes:
        op.keep(op.stored(0))
        return
    size = op.number(sizes)
    limits = op.emit("Sub", [op.emit("Shape", [op.stored(0)]), size])
    starts = op.emit("Min", [op.emit("Max", [_places(op, 1), op.number([0] * len(sizes))]), limits])
    y = op.emit("Slice", [op.stored(0), starts, op.emit("Add", [starts, size]), op.number(list(range(len(sizes))))])
    op.keep(op.emit("Reshape", [y, size]))


@converter("STABLEHLO_DYNAMIC_UPDATE_SLICE")
def moving_part(op: Operation) -> None:
    if op.count != op.rank(0) + 2:
        raise op.error(f"puts a part into {op.rank(0)} axes at {op.count - 2} places")
    replace_part(op, _places(op, 2) if op.rank(0) else op.number([]))


def _places(op: Operation, first: int) -> Value:
    """Inputs from ``first`` on, each one number, as a list."""
    return op.joined([op.emit("Reshape", [op.sizes(index), op.number([1])]) for index in range(first, op.count)])


@converter("STABLEHLO_SHIFT_LEFT")
def shifted(op: Operation) -> None:
    """A product with a power of 2; what does not fit is lost."""
    shift = op.cast(op.stored(1), DType.UINT64)
    power = op.emit("BitShift", [op.number(1, np.uint64), shift], {"direction": "LEFT"})
    wide = op.emit("Mul", [op.cast(op.stored(0), DType.INT64), op.cast(power, DType.INT64)])
    op.keep(op.cast(wide, op.dtype(0)))
