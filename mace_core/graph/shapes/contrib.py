"""Operators of com.microsoft that exporters and onnxruntime's optimisers write."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mace_core.graph.shapes.context import Ints, NodeContext, ShapeMismatchError, broadcast, normalise_axis
from mace_core.graph.shapes.convolution import conv_shape, global_pool, pool, window_outputs
from mace_core.graph.shapes.convolution import qlinear_conv as onnx_qlinear_conv
from mace_core.graph.shapes.elementwise import same_as_first
from mace_core.graph.shapes.linear import gemm, matmul_integer, matmul_shape
from mace_core.graph.shapes.registry import ShapeFunction, shape_function
from mace_core.graph.shapes.selection import gather_nd, grid_sample
from mace_core.tensor import DType, TensorType, ValueType

_DOMAIN = "com.microsoft"


def _contrib(*op_types: str) -> Callable[[ShapeFunction], ShapeFunction]:
    return shape_function(*op_types, domain=_DOMAIN)


_contrib("Gelu", "FastGelu", "BiasGelu", "QuickGelu", "BiasSoftmax", "Trilu", "Inverse", "QLinearSigmoid")(
    same_as_first
)
_contrib("QLinearLeakyRelu", "QLinearSoftmax", "GroupNorm", "RotaryEmbedding")(same_as_first)
_contrib("FusedGemm")(gemm)
_contrib("GatherND")(gather_nd)
_contrib("GridSample")(grid_sample)
_contrib("MatMulInteger16")(matmul_integer)


@_contrib("FusedConv")
def fused_conv(ctx: NodeContext) -> Sequence[ValueType | None]:
    return [TensorType(ctx.dtype(0), conv_shape(ctx, 0, 1))]


@_contrib("FusedMatMul", "TransposeMatMul")
def fused_matmul(ctx: NodeContext) -> Sequence[ValueType | None]:
    first = _arrange(ctx.shape(0), bool(ctx.attr("transA", 0)), bool(ctx.attr("transBatchA", 0)))
    second = _arrange(ctx.shape(1), bool(ctx.attr("transB", 0)), bool(ctx.attr("transBatchB", 0)))
    return [TensorType(ctx.dtype(0), matmul_shape(first, second))]


def _arrange(shape: Ints, transpose: bool, transpose_batch: bool) -> Ints:
    """The matrix (…, rows, columns) behind a factor whose axes may be stored in another order."""
    if len(shape) < 2:
        return shape
    if transpose_batch:
        shape = (*shape[1:-1], shape[0], shape[-1])
    return (*shape[:-2], shape[-1], shape[-2]) if transpose else shape


@_contrib("QLinearAdd", "QLinearMul")
def qlinear_binary(ctx: NodeContext) -> Sequence[ValueType | None]:
    return [TensorType(ctx.dtype(0), broadcast(ctx.shape(0), ctx.shape(3)))]


@_contrib("QLinearAveragePool")
def qlinear_average_pool(ctx: NodeContext) -> Sequence[ValueType | None]:
    return nhwc_pool(ctx) if ctx.attr("channels_last", 0) else pool(ctx)[:1]


@_contrib("NhwcMaxPool")
def nhwc_pool(ctx: NodeContext) -> Sequence[ValueType | None]:
    shape, kernel = ctx.shape(0), ctx.attr("kernel_shape")
    if len(shape) < 3 or kernel is None:
        raise ShapeMismatchError("data (N, …, C) of at least 3 axes and the attribute 'kernel_shape' are required")
    spatial = window_outputs(ctx, shape[1:-1], tuple(kernel), ceil_mode=bool(ctx.attr("ceil_mode", 0)))
    return [TensorType(ctx.dtype(0), (shape[0], *spatial, shape[-1]))]


@_contrib("QLinearGlobalAveragePool")
def qlinear_global_average_pool(ctx: NodeContext) -> Sequence[ValueType | None]:
    if not ctx.attr("channels_last", 0):
        return global_pool(ctx)
    shape = ctx.shape(0)
    return [TensorType(ctx.dtype(0), (shape[0], *(1,) * (len(shape) - 2), shape[-1]))]


@shape_function("QLinearConv", domain=_DOMAIN, dtypes=lambda ctx: [ctx.dtype(7)])
def qlinear_conv(ctx: NodeContext) -> Sequence[ValueType | None]:
    if not ctx.attr("channels_last", 0):
        return onnx_qlinear_conv(ctx)
    shape, filters = ctx.shape(0), ctx.shape(3)
    if len(shape) < 3 or len(filters) != len(shape) or shape[-1] != filters[1] * ctx.attr("group", 1):
        raise ShapeMismatchError("data (N, …, C) and weights (M, C/group, …) do not fit")
    spatial = window_outputs(ctx, shape[1:-1], filters[2:])
    return [TensorType(ctx.dtype(7), (shape[0], *spatial, filters[0]))]


@shape_function("QLinearWhere", domain=_DOMAIN, dtypes=lambda ctx: [ctx.dtype(1)])
def qlinear_where(ctx: NodeContext) -> Sequence[ValueType | None]:
    return [TensorType(ctx.dtype(1), broadcast(ctx.shape(0), ctx.shape(1), ctx.shape(4)))]


@shape_function("DynamicQuantizeLSTM", domain=_DOMAIN, dtypes=lambda ctx: [DType.FLOAT32] * 3)
def dynamic_lstm(ctx: NodeContext) -> Sequence[ValueType | None]:
    """Like LSTM's; W and R are (directions, inputs, 4 hidden)."""
    (steps, batch, features), weights = ctx.shape(0), ctx.shape(1)
    directions = 2 if ctx.attr("direction", "forward") == "bidirectional" else 1
    hidden = ctx.attr("hidden_size", weights[2] // 4)
    if weights != (directions, features, 4 * hidden) or ctx.shape(2) != (directions, hidden, 4 * hidden):
        raise ShapeMismatchError(f"W and R must be (directions, inputs, 4 * hidden) for a hidden size of {hidden}")
    last = TensorType(DType.FLOAT32, (directions, batch, hidden))
    return [TensorType(DType.FLOAT32, (steps, directions, batch, hidden)), last, last]


@_contrib("Pad")
def contrib_pad(ctx: NodeContext) -> Sequence[ValueType | None]:
    shape, pads = ctx.shape(0), ctx.ints(1)
    rank = len(shape)
    if len(pads) != 2 * rank:
        raise ShapeMismatchError(f"{len(pads)} pads do not fit {rank} axes")
    return [TensorType(ctx.dtype(0), tuple(shape[i] + pads[i] + pads[rank + i] for i in range(rank)))]


@_contrib("ExpandDims")
def expand_dims(ctx: NodeContext) -> Sequence[ValueType | None]:
    shape = list(ctx.shape(0))
    shape.insert(normalise_axis(ctx.ints(1)[0], len(shape) + 1), 1)
    return [TensorType(ctx.dtype(0), tuple(shape))]


@_contrib("CDist")
def distances(ctx: NodeContext) -> Sequence[ValueType | None]:
    return [TensorType(ctx.dtype(0), (ctx.shape(0)[0], ctx.shape(1)[0]))]


@shape_function("GatherBlockQuantized", domain=_DOMAIN, dtypes=lambda ctx: [ctx.dtype(2)])
def gather_blocks(ctx: NodeContext) -> Sequence[ValueType | None]:
    """Data packed in bytes has several numbers in every element of its last axis."""
    data, rank = list(ctx.shape(0)), len(ctx.shape(0))
    if ctx.dtype(0) is DType.UINT8:
        data[-1] *= 8 // ctx.attr("bits", 4)
    axis = normalise_axis(ctx.attr("gather_axis", 0), rank)
    return [TensorType(ctx.dtype(2), (*data[:axis], *ctx.shape(1), *data[axis + 1 :]))]


@shape_function("QLinearConcat", domain=_DOMAIN, dtypes=lambda ctx: [ctx.dtype(1)])
def qlinear_concat(ctx: NodeContext) -> Sequence[ValueType | None]:
    """Inputs: output scale, output zero point, then (tensor, scale, zero point) for each part."""
    shapes = [ctx.shape(i) for i in range(2, ctx.input_count, 3)]
    axis = normalise_axis(ctx.attr("axis", 0), len(shapes[0]))
    total = sum(shape[axis] for shape in shapes)
    return [TensorType(ctx.dtype(1), (*shapes[0][:axis], total, *shapes[0][axis + 1 :]))]


@shape_function("QuantizeLinear", domain=_DOMAIN, dtypes=lambda ctx: [ctx.dtype(2) if ctx.has(2) else DType.UINT8])
def quantize(ctx: NodeContext) -> Sequence[ValueType | None]:
    return [TensorType(ctx.dtype(2) if ctx.has(2) else DType.UINT8, ctx.shape(0))]


@shape_function("DequantizeLinear", domain=_DOMAIN, dtypes=lambda ctx: [ctx.dtype(1)])
def dequantize(ctx: NodeContext) -> Sequence[ValueType | None]:
    return [TensorType(ctx.dtype(1), ctx.shape(0))]


@_contrib("SkipLayerNormalization", "SkipSimplifiedLayerNormalization")
def skip_layer_normalisation(ctx: NodeContext) -> Sequence[ValueType | None]:
    """Output, mean, inverse deviation, and the sum of input and skip."""
    shape = ctx.shape(0)
    statistics = TensorType(DType.FLOAT32, (*shape[:-1], 1))
    return [ctx.type(0), statistics, statistics, ctx.type(0)]


@shape_function("MatMulIntegerToFloat", "DynamicQuantizeMatMul", domain=_DOMAIN, dtypes=lambda ctx: [DType.FLOAT32])
def matmul_to_float(ctx: NodeContext) -> Sequence[ValueType | None]:
    return [TensorType(DType.FLOAT32, matmul_shape(ctx.shape(0), ctx.shape(1)))]


@shape_function("QGemm", domain=_DOMAIN, dtypes=lambda ctx: [_qgemm_dtype(ctx)])
def qgemm(ctx: NodeContext) -> Sequence[ValueType | None]:
    """Inputs: A, its scale and zero point, B, its scale and zero point, C, output scale, output zero point."""
    first, second = ctx.shape(0), ctx.shape(3)
    left = first[::-1] if ctx.attr("transA", 0) else first
    right = second[::-1] if ctx.attr("transB", 0) else second
    return [TensorType(_qgemm_dtype(ctx), matmul_shape(left, right))]


def _qgemm_dtype(ctx: NodeContext) -> DType:
    return ctx.dtype(8) if ctx.has(8) else DType.FLOAT32


@_contrib("MatMulNBits")
def matmul_nbits(ctx: NodeContext) -> Sequence[ValueType | None]:
    shape, rows, columns = ctx.shape(0), ctx.attr("K"), ctx.attr("N")
    if shape[-1] != rows:
        raise ShapeMismatchError(f"data of {shape[-1]} columns needs K = {shape[-1]}, not {rows}")
    return [TensorType(ctx.dtype(0), (*shape[:-1], columns))]
