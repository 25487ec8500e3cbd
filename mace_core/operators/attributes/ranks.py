"""Attributes against the rank of the data: lengths of lists, axes that exist, none named twice.

The other half of ``mace_core.operators.attributes``, which has seen kinds and ranges already.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mace_core.operators.context import NodeContext, ShapeMismatchError

_CONTRIB = "com.microsoft"
_DOMAINS = ("", _CONTRIB)

_WINDOWS = frozenset(
    {
        *("AveragePool", "Conv", "ConvInteger", "ConvTranspose", "DeformConv", "FusedConv", "LpPool", "MaxPool"),
        *("MaxUnpool", "NhwcConv", "NhwcFusedConv", "NhwcMaxPool", "QLinearAveragePool", "QLinearConv"),
    }
)
"""Operators with a window that slides over all axes of input 0 but two."""

_ONE_PER_SPATIAL_AXIS = ("kernel_shape", "strides", "dilations", "output_padding")

_AXIS_OF_DATA: dict[str, Sequence[str]] = {
    **dict.fromkeys(
        (
            *("ArgMax", "ArgMin", "Compress", "Concat", "Gather", "GatherElements", "LayerNormalization"),
            *("LpNormalization", "RMSNormalization", "Scatter", "ScatterElements", "SimplifiedLayerNormalization"),
            *("Split", "SplitToSequence", "TensorScatter", "TopK", "Unique"),
        ),
        ("axis",),
    ),
    "GatherBlockQuantized": ("gather_axis", "quantize_axis"),
    "ReverseSequence": ("batch_axis", "time_axis"),
}
"""Operators an axis of whose input 0 is named by an attribute; -1 counts from behind."""

_AXES_OF_DATA = frozenset(
    {
        *("CenterCropPad", "MeanVarianceNormalization", "Resize", "Slice", "Squeeze"),
        *("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin"),
        *("ReduceProd", "ReduceSum", "ReduceSumSquare"),
    }
)
"""Operators whose attribute ``axes`` names axes of input 0."""


def check_attribute_ranks(ctx: NodeContext) -> None:
    """Check the attributes of a node whose inputs have concrete types.

    Raises:
        ShapeMismatchError: naming the attribute and its value.
    """
    node = ctx.node
    if not node.attributes or node.domain not in _DOMAINS:
        return
    op_type = node.op_type
    if op_type in _WINDOWS:
        _check_windows(ctx)
    for name in _AXIS_OF_DATA.get(op_type, ()):
        axis = ctx.attr(name)
        if axis is not None and ctx.has(0):
            _check_axis(name, axis, max(len(ctx.shape(0)), 1 if op_type in _TAKE_SCALARS else 0))
    if op_type in _AXES_OF_DATA and "axes" in node.attributes:
        _check_axes("axes", ctx.attr("axes"), len(ctx.shape(0)))
    check = _OTHERS.get(op_type)
    if check is not None:
        check(ctx)


_TAKE_SCALARS = frozenset({"ArgMax", "ArgMin", "LpNormalization", "TopK"})
"""Operators for which a number without axes has one of size 1."""


def _check_windows(ctx: NodeContext) -> None:
    spatial = len(ctx.shape(0)) - 2
    for name in _ONE_PER_SPATIAL_AXIS:
        _check_length(name, ctx.attr(name), spatial)
    _check_length("pads", ctx.attr("pads"), 2 * spatial)
    _check_length("output_shape", ctx.attr("output_shape"), spatial, spatial + 2)


def _check_length(name: str, given: Sequence[Any] | None, *lengths: int) -> None:
    if given is not None and len(given) not in lengths:
        wanted = " or ".join(str(max(length, 0)) for length in lengths)
        raise ShapeMismatchError(
            f"the attribute '{name}' must have {wanted} elements, not {len(given)}: {_shown(given)}"
        )


def _check_axis(name: str, axis: int, rank: int) -> None:
    if not -rank <= axis < rank:
        dimensions = f"{rank} dimension{'' if rank == 1 else 's'}"
        raise ShapeMismatchError(f"axis {axis} does not exist in {dimensions} (attribute '{name}')")


def _check_axes(name: str, axes: Sequence[int], rank: int) -> None:
    for axis in axes:
        _check_axis(name, axis, rank)
    if len({axis % rank for axis in axes}) != len(axes):
        raise ShapeMismatchError(f"the attribute '{name}' names one axis twice: {_shown(axes)}")


def _shown(given: Sequence[Any]) -> str:
    text = str(list(given[:9]))
    return text if len(given) <= 9 else f"{text[:-1]}, …]"


def _column_to_image(ctx: NodeContext) -> None:
    blocks = ctx.shape(2)
    if len(blocks) == 1:
        for name in ("strides", "dilations"):
            _check_length(name, ctx.attr(name), blocks[0])
        _check_length("pads", ctx.attr("pads"), 2 * blocks[0])


def _transpose(ctx: NodeContext) -> None:
    order, rank = ctx.attr("perm"), len(ctx.shape(0))
    if order is not None and sorted(order) != list(range(rank)):
        raise ShapeMismatchError(f"the attribute 'perm' is not a permutation of {rank} axes: {_shown(order)}")


def _flatten(ctx: NodeContext) -> None:
    rank, axis = len(ctx.shape(0)), ctx.attr("axis", 1)
    if not -rank <= axis <= rank:
        _check_axis("axis", axis, rank)


def _slice(ctx: NodeContext) -> None:
    starts = ctx.attr("starts")
    if starts is not None:
        for name in ("ends", "axes"):
            _check_length(name, ctx.attr(name), len(starts))


def _pad(ctx: NodeContext) -> None:
    for name in ("pads", "paddings"):
        _check_length(name, ctx.attr(name), 2 * len(ctx.shape(0)))


def _upsample(ctx: NodeContext) -> None:
    _check_length("scales", ctx.attr("scales"), len(ctx.shape(0)))


def _split(ctx: NodeContext) -> None:
    _check_length("split", ctx.attr("split"), ctx.output_count)
    parts = ctx.attr("num_outputs")
    if parts is not None and parts != ctx.output_count:
        raise ShapeMismatchError(f"the attribute 'num_outputs' is {parts}, but the node has {ctx.output_count} outputs")


def _max_roi_pool(ctx: NodeContext) -> None:
    _check_length("pooled_shape", ctx.attr("pooled_shape"), 2)


def _recurrent(ctx: NodeContext) -> None:
    directions = 2 if ctx.attr("direction", "forward") == "bidirectional" else 1
    each = {"RNN": 1, "GRU": 2, "LSTM": 3, "DynamicQuantizeLSTM": 3}[ctx.node.op_type]
    _check_length("activations", ctx.attr("activations"), each * directions)


def _n_grams(ctx: NodeContext) -> None:
    shortest, longest = ctx.attr("min_gram_length", 1), ctx.attr("max_gram_length", 1)
    if shortest > longest:
        raise ShapeMismatchError(f"min_gram_length {shortest} is more than max_gram_length {longest}")
    grams = ctx.attr("ngram_indexes") or ()
    _check_length("weights", ctx.attr("weights"), len(grams))


def _scan(ctx: NodeContext) -> None:
    count = ctx.attr("num_scan_inputs", 0)
    states = ctx.input_count - count - (1 if ctx.opset < 9 else 0)
    for name in ("scan_input_axes", "scan_input_directions", "directions"):
        _check_length(name, ctx.attr(name), count)
    for name in ("scan_output_axes", "scan_output_directions"):
        _check_length(name, ctx.attr(name), ctx.output_count - states)


_OTHERS: dict[str, Callable[[NodeContext], None]] = {
    "Col2Im": _column_to_image,
    "DynamicQuantizeLSTM": _recurrent,
    "Flatten": _flatten,
    "GRU": _recurrent,
    "LSTM": _recurrent,
    "MaxRoiPool": _max_roi_pool,
    "Pad": _pad,
    "RNN": _recurrent,
    "Scan": _scan,
    "Slice": _slice,
    "Split": _split,
    "TfIdfVectorizer": _n_grams,
    "Transpose": _transpose,
    "Upsample": _upsample,
}
