"""Each builtin operator of TensorFlow Lite, in small models of several, against LiteRT."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from lite_models import LiteGraph, LiteModel, assert_agree

Build = Callable[[LiteGraph], None]
RNG = np.random.default_rng(7)


def floats(*shape: int, low: float = -3, high: float = 3) -> np.ndarray:
    return np.random.default_rng(sum(shape)).uniform(low, high, shape).astype(np.float32)


def unary(g: LiteGraph, kind: str, x: int, shape: tuple[int, ...], options: str = "", **fields: Any) -> None:
    g.op(
        kind,
        [x],
        [g.output(f"{kind}_{len(g.table.outputs)}", shape, fields.pop("dtype", "float32"))],
        options,
        **fields,
    )


def test_functions_of_one_tensor() -> None:
    model = LiteModel()
    g = model.graph()
    shape = (2, 3, 5)
    x = g.input("x", shape)
    for kind in (
        *("ABS", "CEIL", "COS", "ELU", "EXP", "FLOOR", "LOGISTIC", "NEG", "RELU", "RELU6", "RELU_N1_TO_1", "ROUND"),
        *("SIN", "SQUARE", "TANH", "HARD_SWISH", "LOG_SOFTMAX", "ZEROS_LIKE", "RELU_0_TO_1", "SIGN"),
    ):
        unary(g, kind, x, shape)
    unary(g, "SOFTMAX", x, shape, "SoftmaxOptions", beta=0.7)
    unary(g, "LEAKY_RELU", x, shape, "LeakyReluOptions", alpha=0.2)
    unary(g, "GELU", x, shape, "GeluOptions", approximate=False)
    unary(g, "GELU", x, shape, "GeluOptions", approximate=True)
    unary(g, "L2_NORMALIZATION", x, shape, "L2NormOptions")
    positive = g.tensor("positive", shape)
    g.op("EXP", [x], [positive])
    for kind in ("LOG", "SQRT", "RSQRT"):
        unary(g, kind, positive, shape)
    slope = g.constant("slope", floats(3, 5, low=0, high=1))
    g.op("PRELU", [x, slope], [g.output("PRELU", shape)])
    values = floats(*shape)
    values.flat[:6] = [-2.5, -1.5, -0.5, 0.5, 1.5, 2.5]  # halves are rounded to even
    assert_agree(model.bytes(), {"x": values})


BINARY = {
    **dict.fromkeys(("ADD", "SUB", "MUL", "DIV"), "float32"),
    **dict.fromkeys(("MAXIMUM", "MINIMUM", "POW", "SQUARED_DIFFERENCE", "FLOOR_DIV", "FLOOR_MOD", "ATAN2"), "float32"),
    **dict.fromkeys(("EQUAL", "NOT_EQUAL", "GREATER", "GREATER_EQUAL", "LESS", "LESS_EQUAL"), "bool"),
}
FUSED = {"ADD": "AddOptions", "SUB": "SubOptions", "MUL": "MulOptions", "DIV": "DivOptions"}


def test_functions_of_two_tensors_that_are_broadcast() -> None:
    model = LiteModel()
    g = model.graph()
    a, b = g.input("a", (2, 3, 4)), g.input("b", (3, 1))
    same = g.constant("same", floats(2, 3, 4, low=0.5))
    for kind, dtype in BINARY.items():
        if kind in ("POW", "ATAN2"):  # LiteRT's do not broadcast, and powers of negative numbers are not defined
            base = g.tensor(f"{kind}_base", (2, 3, 4))
            g.op("EXP" if kind == "POW" else "NEG", [a], [base])
            g.op(kind, [base, same], [g.output(kind, (2, 3, 4))])
            continue
        g.op(kind, [a, b], [g.output(kind, (2, 3, 4), dtype)], FUSED.get(kind, ""))
    for function in (1, 2, 3):
        g.op("ADD", [a, b], [g.output(f"fused_{function}", (2, 3, 4))], "AddOptions", fusedActivationFunction=function)
    rows = floats(2, 3, 4)
    rows[0, 0] = [0.5, 0.5, -0.5, 1.5]
    assert_agree(model.bytes(), {"a": rows, "b": np.float32([[0.5], [-0.7], [1.3]])})


def test_whole_numbers_are_divided_as_in_litert() -> None:
    model = LiteModel()
    g = model.graph()
    a, b = g.input("a", (8,), "int32"), g.input("b", (8,), "int32")
    for kind in ("ADD", "SUB", "MUL", "DIV", "FLOOR_DIV", "FLOOR_MOD", "MAXIMUM", "MINIMUM"):
        g.op(kind, [a, b], [g.output(kind, (8,), "int32")], FUSED.get(kind, ""))
    for kind in ("RIGHT_SHIFT", "BITWISE_XOR"):
        shift = g.constant("shift", np.int32([0, 1, 2, 3, 4, 5, 6, 7]))
        g.op(kind, [a, shift], [g.output(kind, (8,), "int32")])
    feeds = {"a": np.int32([7, -7, 7, -7, 6, -6, 1, -1]), "b": np.int32([2, 2, -2, -2, 3, 3, 5, 5])}
    assert_agree(model.bytes(), feeds)


def test_truth_values() -> None:
    model = LiteModel()
    g = model.graph()
    a, b = g.input("a", (2, 4), "bool"), g.input("b", (2, 4), "bool")
    g.op("LOGICAL_AND", [a, b], [g.output("and", (2, 4), "bool")])
    g.op("LOGICAL_OR", [a, b], [g.output("or", (2, 4), "bool")])
    g.op("LOGICAL_NOT", [a], [g.output("not", (2, 4), "bool")])
    axis = g.constant("axis", np.int32([1]))
    g.op("REDUCE_ANY", [a, axis], [g.output("any", (2,), "bool")], "ReducerOptions")
    g.op("REDUCE_ALL", [a, axis], [g.output("all", (2, 1), "bool")], "ReducerOptions", keepDims=True)
    g.op("WHERE", [a], [g.output("where", (3, 2), "int64", signature=(-1, 2))])
    g.op("ARG_MAX", [a, axis], [g.output("first", (2,), "int32")], "ArgMaxOptions", outputType=2)
    one, two = g.constant("one", floats(2, 4)), g.constant("two", floats(2, 4, low=5, high=6))
    g.op("SELECT_V2", [a, one, two], [g.output("select", (2, 4))])
    rows = g.constant("rows", np.array([True, False]))
    g.op("SELECT", [rows, one, two], [g.output("rows_selected", (2, 4))])
    g.op("CAST", [a], [g.output("cast", (2, 4), "float32")], "CastOptions", inDataType=6, outDataType=0)
    feeds = {"a": np.array([[1, 0, 0, 1], [0, 1, 0, 0]], bool), "b": np.array([[1, 1, 0, 0], [0, 1, 1, 0]], bool)}
    assert_agree(model.bytes(), feeds)


def test_reductions() -> None:
    model = LiteModel()
    g = model.graph()
    x = g.input("x", (2, 3, 4, 5))
    axes = g.constant("axes", np.int32([1, -1]))
    for kind in ("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD"):
        g.op(kind, [x, axes], [g.output(kind, (2, 4))], "ReducerOptions")
        g.op(kind, [x, axes], [g.output(f"{kind}_kept", (2, 1, 4, 1))], "ReducerOptions", keepDims=True)
    axis = g.constant("axis", np.int32(2))
    g.op("ARG_MAX", [x, axis], [g.output("argmax", (2, 3, 5), "int32")], "ArgMaxOptions", outputType=2)
    g.op("ARG_MIN", [x, axis], [g.output("argmin", (2, 3, 5), "int64")], "ArgMinOptions", outputType=4)
    k = g.constant("k", np.int32(3))
    g.op("TOPK_V2", [x, k], [g.output("top", (2, 3, 4, 3)), g.output("at", (2, 3, 4, 3), "int32")], "TopKV2Options")
    g.op("CUMSUM", [x, axis], [g.output("sums", (2, 3, 4, 5))], "CumsumOptions", exclusive=True, reverse=True)
    assert_agree(model.bytes(), {"x": floats(2, 3, 4, 5)})


def test_parts_and_joints() -> None:
    model = LiteModel()
    g = model.graph()
    x = g.input("x", (2, 4, 6))
    g.op(
        "SPLIT",
        [g.constant("axis", np.int32(1)), x],
        [g.output(f"s{i}", (2, 2, 6)) for i in range(2)],
        "SplitOptions",
        numSplits=2,
    )
    sizes = g.constant("sizes", np.int32([1, -1, 2]))
    parts = [g.output(f"v{i}", (2, 4, size)) for i, size in enumerate((1, 3, 2))]
    g.op("SPLIT_V", [x, sizes, g.constant("last", np.int32(2))], parts, "SplitVOptions", numSplits=3)
    g.op("UNPACK", [x], [g.output(f"u{i}", (4, 6)) for i in range(2)], "UnpackOptions", num=2, axis=0)
    g.op("PACK", [x, x], [g.output("packed", (2, 4, 2, 6))], "PackOptions", valuesCount=2, axis=2)
    g.op(
        "CONCATENATION",
        [x, x],
        [g.output("joined", (2, 8, 6))],
        "ConcatenationOptions",
        axis=-2,
        fusedActivationFunction=1,
    )
    begin, size = g.constant("begin", np.int32([0, 1, 2])), g.constant("size", np.int32([-1, 2, 3]))
    g.op("SLICE", [x, begin, size], [g.output("slice", (2, 2, 3))], "SliceOptions")
    g.op("TILE", [x, g.constant("times", np.int32([2, 1, 2]))], [g.output("tiled", (4, 4, 12))], "TileOptions")
    g.op("REVERSE_V2", [x, g.constant("way", np.int32([2]))], [g.output("reversed", (2, 4, 6))], "ReverseV2Options")
    lengths = g.constant("lengths", np.int32([1, 3]))
    g.op(
        "REVERSE_SEQUENCE",
        [x, lengths],
        [g.output("turned", (2, 4, 6))],
        "ReverseSequenceOptions",
        seqDim=1,
        batchDim=0,
    )
    g.op(
        "TRANSPOSE",
        [x, g.constant("order", np.int32([2, 0, 1]))],
        [g.output("transposed", (6, 2, 4))],
        "TransposeOptions",
    )
    g.op("RESHAPE", [x, g.constant("shape", np.int32([-1, 12]))], [g.output("reshaped", (4, 12))], "ReshapeOptions")
    g.op("EXPAND_DIMS", [x, g.constant("place", np.int32(-1))], [g.output("more", (2, 4, 6, 1))], "ExpandDimsOptions")
    g.op(
        "BROADCAST_TO",
        [x, g.constant("wide", np.int32([3, 2, 4, 6]))],
        [g.output("wider", (3, 2, 4, 6))],
        "BroadcastToOptions",
        version=2,
    )
    assert_agree(model.bytes(), {"x": floats(2, 4, 6)})


STRIDED = [
    # begin, end, steps, masks, shape of the result for (4, 5, 6)
    ([1, 0, 2], [3, 5, 6], [1, 2, 3], {}, (2, 3, 2)),
    ([0, 0, 0], [4, 5, 6], [1, 1, 1], {"shrinkAxisMask": 2}, (4, 6)),
    ([-1, 0, 0], [0, 5, 6], [1, 1, 1], {"shrinkAxisMask": 1}, (5, 6)),
    ([3, 4, 5], [0, 0, 0], [-1, -2, -1], {"endMask": 4}, (3, 2, 6)),
    ([1, 2, 3], [2, 3, 4], [1, 1, 1], {"beginMask": 5, "endMask": 3}, (2, 3, 4)),
    ([0, 1], [0, 3], [1, 1], {"ellipsisMask": 1}, (4, 5, 2)),
    ([0, 0, 0, 1], [0, 0, 0, 4], [1, 1, 1, 1], {"newAxisMask": 1, "ellipsisMask": 2, "shrinkAxisMask": 8}, (1, 4, 5)),
]


def test_strided_slices() -> None:
    model = LiteModel()
    g = model.graph()
    x = g.input("x", (4, 5, 6))
    for at, (begin, end, steps, masks, shape) in enumerate(STRIDED):
        lists = [
            g.constant(f"{at}{name}", np.int32(numbers)) for name, numbers in (("b", begin), ("e", end), ("s", steps))
        ]
        if at == 6:  # LiteRT's own converter splits masks that it has no kernel for: three dimensions of result at most
            lists = [
                g.constant(f"{at}{n}", np.int32(v)) for n, v in (("b", [0, 0, 1]), ("e", [0, 0, 4]), ("s", [1, 1, 1]))
            ]
            masks = {"newAxisMask": 1, "ellipsisMask": 2, "shrinkAxisMask": 4}
        g.op("STRIDED_SLICE", [x, *lists], [g.output(f"y{at}", shape)], "StridedSliceOptions", **masks)
    assert_agree(model.bytes(), {"x": floats(4, 5, 6)})


def test_elements_at_indices() -> None:
    model = LiteModel()
    g = model.graph()
    x = g.input("x", (3, 4, 5))
    at = g.constant("at", np.int32([[2, 0], [1, 3]]))
    g.op("GATHER", [x, at], [g.output("gather", (3, 2, 2, 5))], "GatherOptions", axis=1)
    rows = g.constant("rows", np.int32([[1, 0], [2, 2], [0, 3]]))
    g.op("GATHER", [x, rows], [g.output("batched", (3, 2, 5))], "GatherOptions", axis=1, batchDims=1)
    g.op("GATHER_ND", [x, at], [g.output("nd", (2, 5))], "GatherNdOptions")
    shape = g.constant("shape", np.int32([3, 4, 5]))
    places = g.constant("places", np.int32([[0, 1], [2, 3], [0, 1]]))
    updates = g.constant("updates", floats(3, 5))
    g.op("SCATTER_ND", [places, updates, shape], [g.output("scattered", (3, 4, 5))], "ScatterNdOptions")
    start = g.constant("start", np.int32([1, 3, 0]))
    g.op("DYNAMIC_UPDATE_SLICE", [x, g.constant("part", floats(2, 2, 5)), start], [g.output("written", (3, 4, 5))])
    hot = g.constant("hot", np.int32([1, 0, 7, -1]))
    on, off = g.constant("on", np.float32(2)), g.constant("off", np.float32(-1))
    g.op(
        "ONE_HOT",
        [hot, g.constant("depth", np.int32(3)), on, off],
        [g.output("hot1", (4, 3))],
        "OneHotOptions",
        axis=-1,
    )
    g.op("EMBEDDING_LOOKUP", [g.constant("ids", np.int32([2, 0])), x], [g.output("rows2", (2, 4, 5))])
    default = g.constant("default", np.float32(0.5))
    spots = g.constant("spots", np.int32([[0, 1], [2, 0]]))
    g.op(
        "SPARSE_TO_DENSE",
        [spots, g.constant("dense_shape", np.int32([3, 2])), g.constant("values", np.float32([4, 5])), default],
        [g.output("dense", (3, 2))],
        "SparseToDenseOptions",
    )
    assert_agree(model.bytes(), {"x": floats(3, 4, 5)})


def test_padding() -> None:
    model = LiteModel()
    g = model.graph()
    x = g.input("x", (2, 3, 4))
    pads = g.constant("pads", np.int32([[0, 1], [2, 0], [1, 2]]))
    g.op("PAD", [x, pads], [g.output("zeros", (3, 5, 7))], "PadOptions")
    g.op("PADV2", [x, pads, g.constant("fill", np.float32(9))], [g.output("nines", (3, 5, 7))], "PadV2Options")
    g.op("MIRROR_PAD", [x, pads], [g.output("reflect", (3, 5, 7))], "MirrorPadOptions", mode=0)
    g.op("MIRROR_PAD", [x, pads], [g.output("symmetric", (3, 5, 7))], "MirrorPadOptions", mode=1)
    assert_agree(model.bytes(), {"x": floats(2, 3, 4)})


def test_sizes_of_tensors() -> None:
    model = LiteModel()
    g = model.graph()
    x = g.input("x", (2, 3), signature=(-1, 3))
    sizes = g.tensor("sizes", (2,), "int32")
    g.op("SHAPE", [x], [sizes], "ShapeOptions", outType=2)
    g.op("RANK", [x], [g.output("rank", (), "int32")], "RankOptions")
    g.op(
        "FILL",
        [sizes, g.constant("seven", np.float32(7))],
        [g.output("sevens", (2, 3), signature=(-1, 3))],
        "FillOptions",
    )
    ends = [g.constant(name, np.int32(value)) for name, value in (("first", 1), ("last", 9), ("step", 3))]
    g.op("RANGE", ends, [g.output("range", (3,), "int32")], "RangeOptions")
    g.op("BROADCAST_ARGS", [sizes, g.constant("three", np.int32([4, 1, 1]))], [g.output("together", (3,), "int32")])
    g.op(
        "SQUEEZE", [g.constant("ones", floats(1, 3, 1))], [g.output("squeezed", (3,))], "SqueezeOptions", squeezeDims=[]
    )
    assert_agree(model.bytes(), {"x": floats(2, 3)})
    assert_agree(model.bytes(), {"x": floats(5, 3)})


PADDINGS = (0, 1)  # SAME, VALID


@pytest.mark.parametrize("padding", PADDINGS)
def test_convolutions(padding: int) -> None:
    """Strides, dilations, groups, depth multipliers and fused activations."""
    model = LiteModel()
    g = model.graph()
    x = g.input("x", (2, 9, 8, 4))

    def size(length: int, kernel: int, stride: int, dilation: int) -> int:
        reach = (kernel - 1) * dilation + 1
        return -(-length // stride) if padding == 0 else (length - reach) // stride + 1

    for at, (kernel, stride, dilation, group) in enumerate(
        [
            ((3, 3), (1, 1), (1, 1), 1),
            ((3, 2), (2, 3), (1, 1), 1),
            ((2, 3), (1, 1), (2, 1), 1),
            ((3, 3), (1, 2), (1, 1), 2),
        ]
    ):
        shape = [size(9, kernel[0], stride[0], dilation[0]), size(8, kernel[1], stride[1], dilation[1])]
        filters, bias = g.constant(f"f{at}", floats(6, *kernel, 4 // group)), g.constant(f"b{at}", floats(6))
        fields = {"padding": padding, "strideH": stride[0], "strideW": stride[1]}
        dilations = {"dilationHFactor": dilation[0], "dilationWFactor": dilation[1]}
        inputs = [x, filters, bias]
        g.op(
            "CONV_2D",
            inputs,
            [g.output(f"c{at}", (2, *shape, 6))],
            "Conv2DOptions",
            fusedActivationFunction=at % 4,
            **fields,
            **dilations,
        )
        if group == 1:
            deep = g.constant(f"d{at}", floats(1, *kernel, 8))
            g.op(
                "DEPTHWISE_CONV_2D",
                [x, deep, g.constant(f"e{at}", floats(8))],
                [g.output(f"w{at}", (2, *shape, 8))],
                "DepthwiseConv2DOptions",
                depthMultiplier=2,
                **fields,
                **dilations,
            )
    for kind in ("MAX_POOL_2D", "AVERAGE_POOL_2D", "L2_POOL_2D"):
        shape = [size(9, 3, 2, 1), size(8, 2, 1, 1)]
        g.op(
            kind,
            [x],
            [g.output(kind, (2, *shape, 4))],
            "Pool2DOptions",
            padding=padding,
            strideH=2,
            strideW=1,
            filterHeight=3,
            filterWidth=2,
        )
    assert_agree(model.bytes(), {"x": floats(2, 9, 8, 4)})


def test_a_filter_that_the_model_computes() -> None:
    model = LiteModel()
    g = model.graph()
    x, given = g.input("x", (1, 5, 5, 3)), g.input("filters", (4, 3, 3, 3))
    filters = g.tensor("twice", (4, 3, 3, 3))
    g.op("ADD", [given, given], [filters], "AddOptions")
    g.op(
        "CONV_2D",
        [x, filters, g.constant("none", np.zeros(4, np.float32))],
        [g.output("y", (1, 5, 5, 4))],
        "Conv2DOptions",
        padding=0,
        strideH=1,
        strideW=1,
        dilationHFactor=1,
        dilationWFactor=1,
    )
    assert_agree(model.bytes(), {"x": floats(1, 5, 5, 3), "filters": floats(4, 3, 3, 3)})


@pytest.mark.parametrize("padding", PADDINGS)
def test_transposed_convolutions(padding: int) -> None:
    model = LiteModel()
    g = model.graph()
    x = g.input("x", (1, 4, 5, 3))
    for at, (kernel, stride) in enumerate([((3, 3), (2, 2)), ((2, 2), (2, 2)), ((4, 3), (2, 1)), ((1, 2), (2, 3))]):
        shape = [
            length * step if padding == 0 else (length - 1) * step + max(window, step)
            for length, window, step in zip((4, 5), kernel, stride, strict=True)
        ]
        wanted = g.constant(f"shape{at}", np.int32([1, *shape, 2]))
        filters, bias = g.constant(f"f{at}", floats(2, *kernel, 3)), g.constant(f"b{at}", floats(2))
        inputs = [wanted, filters, x, bias] if at % 2 else [wanted, filters, x]
        g.op(
            "TRANSPOSE_CONV",
            inputs,
            [g.output(f"y{at}", (1, *shape, 2))],
            "TransposeConvOptions",
            version=3,
            padding=padding,
            strideH=stride[0],
            strideW=stride[1],
        )
    assert_agree(model.bytes(), {"x": floats(1, 4, 5, 3)})


def test_volumes() -> None:
    model = LiteModel()
    g = model.graph()
    x = g.input("x", (1, 4, 5, 6, 2))
    filters, bias = g.constant("f", floats(2, 3, 2, 2, 4)), g.constant("b", floats(4))
    g.op(
        "CONV_3D",
        [x, filters, bias],
        [g.output("y", (1, 2, 3, 6, 4))],
        "Conv3DOptions",
        padding=0,
        strideD=2,
        strideH=2,
        strideW=1,
    )
    back = g.constant("back", floats(2, 2, 2, 3, 2))
    wanted = g.constant("wanted", np.int32([1, 8, 10, 12, 3]))
    g.op(
        "CONV_3D_TRANSPOSE",
        [wanted, back, x],
        [g.output("z", (1, 8, 10, 12, 3))],
        "Conv3DOptions",
        padding=0,
        strideD=2,
        strideH=2,
        strideW=2,
    )
    assert_agree(model.bytes(), {"x": floats(1, 4, 5, 6, 2)})


def test_products_of_matrices() -> None:
    model = LiteModel()
    g = model.graph()
    x = g.input("x", (2, 3, 8))
    weights, bias = g.constant("w", floats(5, 8)), g.constant("b", floats(5))
    g.op(
        "FULLY_CONNECTED",
        [x, weights, bias],
        [g.output("rows", (6, 5))],
        "FullyConnectedOptions",
        fusedActivationFunction=1,
    )
    g.op("FULLY_CONNECTED", [x, weights, -1], [g.output("kept", (2, 3, 5))], "FullyConnectedOptions", keepNumDims=True)
    wide = g.constant("wide", floats(5, 24))
    g.op("FULLY_CONNECTED", [x, wide], [g.output("flat", (2, 5))], "FullyConnectedOptions")
    right = g.constant("right", floats(2, 4, 8))
    g.op("BATCH_MATMUL", [x, right], [g.output("y", (2, 3, 4))], "BatchMatMulOptions", adjY=True)
    g.op("BATCH_MATMUL", [x, x], [g.output("z", (2, 8, 8))], "BatchMatMulOptions", adjX=True)
    assert_agree(model.bytes(), {"x": floats(2, 3, 8)})


def test_images_are_resized_as_in_litert() -> None:
    """Every mode, larger and smaller, to sizes that do not divide each other."""
    model = LiteModel()
    g = model.graph()
    x = g.input("x", (1, 7, 10, 3))
    for height, width in ((14, 20), (3, 5), (10, 13), (7, 10), (1, 1), (23, 31)):
        size = g.constant(f"{height}x{width}", np.int32([height, width]))
        for kind, options in (
            ("RESIZE_BILINEAR", "ResizeBilinearOptions"),
            ("RESIZE_NEAREST_NEIGHBOR", "ResizeNearestNeighborOptions"),
        ):
            for corners, centers in ((False, False), (True, False), (False, True)):
                name = f"{kind}_{height}x{width}_{corners:d}{centers:d}"
                g.op(
                    kind,
                    [x, size],
                    [g.output(name, (1, height, width, 3))],
                    options,
                    version=3,
                    alignCorners=corners,
                    halfPixelCenters=centers,
                )
    assert_agree(model.bytes(), {"x": floats(1, 7, 10, 3)})


def test_blocks_of_space_depth_and_batch() -> None:
    model = LiteModel()
    g = model.graph()
    x = g.input("x", (4, 6, 8, 8))
    g.op("DEPTH_TO_SPACE", [x], [g.output("space", (4, 12, 16, 2))], "DepthToSpaceOptions", blockSize=2)
    g.op("SPACE_TO_DEPTH", [x], [g.output("depth", (4, 3, 4, 32))], "SpaceToDepthOptions", blockSize=2)
    block = g.constant("block", np.int32([2, 3]))
    pads = g.constant("pads", np.int32([[1, 1], [1, 0]]))
    g.op("SPACE_TO_BATCH_ND", [x, block, pads], [g.output("batch", (24, 4, 3, 8))], "SpaceToBatchNDOptions")
    square = g.constant("square", np.int32([2, 2]))
    crops = g.constant("crops", np.int32([[1, 0], [0, 2]]))
    g.op("BATCH_TO_SPACE_ND", [x, square, crops], [g.output("back", (1, 11, 14, 8))], "BatchToSpaceNDOptions")
    g.op(
        "LOCAL_RESPONSE_NORMALIZATION",
        [x],
        [g.output("lrn", (4, 6, 8, 8))],
        "LocalResponseNormalizationOptions",
        radius=2,
        bias=1.5,
        alpha=0.3,
        beta=0.75,
    )
    assert_agree(model.bytes(), {"x": floats(4, 6, 8, 8)})


def test_fourier_transforms() -> None:
    model = LiteModel()
    g = model.graph()
    x = g.input("x", (2, 3, 16))
    spectrum = g.tensor("spectrum", (2, 4, 9), "complex64")
    g.op("RFFT2D", [x, g.constant("lengths", np.int32([4, 16]))], [spectrum], "Rfft2dOptions")
    for kind in ("REAL", "IMAG", "COMPLEX_ABS"):
        g.op(kind, [spectrum], [g.output(kind, (2, 4, 9))])
    assert_agree(model.bytes(), {"x": floats(2, 3, 16)})


def test_halves_and_fake_quantization() -> None:
    model = LiteModel()
    g = model.graph()
    x = g.input("x", (2, 5))
    halves = g.constant("halves", floats(2, 5), "float16")
    weights = g.tensor("weights", (2, 5))
    g.op("DEQUANTIZE", [halves], [weights])
    g.op("ADD", [x, weights], [g.output("y", (2, 5))], "AddOptions")
    g.op(
        "FAKE_QUANT",
        [x],
        [g.output("fake", (2, 5))],
        "FakeQuantOptions",
        min=-1.1,
        max=2.3,
        numBits=8,
        narrowRange=False,
    )
    assert_agree(model.bytes(), {"x": floats(2, 5)})


def test_the_batch_may_change() -> None:
    """A batch that the file leaves open, through operators that need sizes."""
    model = LiteModel()
    g = model.graph()
    x = g.input("x", (1, 6, 6, 4), signature=(-1, 6, 6, 4))
    filters = g.constant("f", floats(8, 3, 3, 4))
    y = g.tensor("y", (1, 3, 3, 8), signature=(-1, 3, 3, 8))
    g.op(
        "CONV_2D",
        [x, filters, g.constant("none", np.zeros(8, np.float32))],
        [y],
        "Conv2DOptions",
        padding=0,
        strideH=2,
        strideW=2,
        dilationHFactor=1,
        dilationWFactor=1,
    )
    z = g.tensor("z", (1, 72), signature=(-1, 72))
    g.op("RESHAPE", [y, g.constant("flat", np.int32([-1, 72]))], [z], "ReshapeOptions", newShape=[-1, 72])
    g.op(
        "FULLY_CONNECTED",
        [z, g.constant("w", floats(5, 72))],
        [g.output("out", (1, 5), signature=(-1, 5))],
        "FullyConnectedOptions",
    )
    for batch in (1, 3):
        assert_agree(model.bytes(), {"x": floats(batch, 6, 6, 4)})
