"""Where a judge does not do what the ONNX specification says.

Each entry names the judge, the operators, when it is wrong, and why the specification says so, with a smallest example.
`docs/judges.md` is written from this table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mace_testing.fuzzing import nothing
from mace_testing.fuzzing.case import CONTRIB, ML, Array, OpCase

REFERENCE, RUNTIME = "onnx.reference", "onnxruntime"


@dataclass(frozen=True)
class Known:
    """What a judge says of these operators does not count where ``when`` holds.

    Attributes:
        what: the difference, in a sentence.
        why: the reason by the specification.
        example: a smallest case in words.
        domain: of the operators.
    """

    judge: str
    ops: tuple[str, ...]
    what: str
    why: str
    example: str
    when: Callable[[OpCase], bool] = lambda case: True
    domain: str = ""

    @property
    def operators(self) -> frozenset[tuple[str, str]]:
        return frozenset((self.domain, op) for op in self.ops)


def _rank(case: OpCase, index: int = 0) -> int:
    array = case.inputs[index]
    return 0 if array is None else array.ndim


def _has(case: OpCase, index: int) -> bool:
    return len(case.inputs) > index and case.inputs[index] is not None


def _dtype(case: OpCase, index: int = 0) -> str:
    array = case.inputs[index]
    return "" if array is None else array.dtype.name


def _any(case: OpCase, test: Callable[[Array], Array], index: int = 0) -> bool:
    array = case.inputs[index]
    return array is not None and bool(test(array).any())


def _unbounded_infinity(case: OpCase) -> bool:
    given = [*case.inputs[1:], None, None]
    return case.opset >= 11 and (given[0] is None or given[1] is None) and _any(case, np.isinf)


def _unchanged_lengths(case: OpCase) -> bool:
    """A Resize by scales other than 1 that changes no length."""
    data, lengths = case.inputs[0], _resized_lengths(case)
    if data is None or lengths is None or not _has(case, 2) or _has(case, 3):
        return False
    return bool((lengths != data.shape).any() and (np.floor(lengths) == data.shape).all())


def _resized_lengths(case: OpCase) -> Array | None:
    """The length a Resize asks for along every axis, fractions included."""
    data = case.inputs[0]
    scales, sizes = [*case.inputs[2:], None, None][:2]
    asked = scales if sizes is None else sizes
    if data is None or asked is None:
        return None
    axes = [axis % data.ndim for axis in case.attributes.get("axes", range(data.ndim))]
    if asked.size != len(axes):
        return None
    lengths = np.array(data.shape, np.float64)
    if not lengths.all():
        return None
    ratios = asked / lengths[axes] if sizes is not None else asked
    policy = case.attributes.get("keep_aspect_ratio_policy", "stretch")
    if sizes is not None and policy != "stretch":
        ratios = ratios.min() if policy == "not_larger" else ratios.max()
    lengths[axes] *= ratios
    return lengths


def _crops_to_the_same_length(case: OpCase) -> bool:
    """A Resize of a region that makes some axis as long as the whole was."""
    data, lengths = case.inputs[0], _resized_lengths(case)
    if data is None or lengths is None or case.attributes.get("coordinate_transformation_mode") != "tf_crop_and_resize":
        return False
    return bool((np.floor(lengths) == data.shape).any())


def _one_and_a_fraction(case: OpCase) -> bool:
    """A Resize of pytorch_half_pixel by a scale that gives a length between 1 and 2."""
    lengths = _resized_lengths(case)
    if lengths is None or case.attributes.get("coordinate_transformation_mode") != "pytorch_half_pixel":
        return False
    return bool(((lengths > 1) & (lengths < 2)).any())


def _causal_cache_and_more_keys_than_queries(case: OpCase) -> bool:
    query, key = case.inputs[0], case.inputs[1]
    if query is None or key is None or not case.attributes.get("is_causal") or not _has(case, 4):
        return False
    return bool(query.shape[-2] != key.shape[-2])


def _same_without_padding(case: OpCase) -> bool:
    """SAME padding where windows leave gaps, so that the formula asks for less than no padding on some axis."""
    data, kernel = case.inputs[0], case.attr("kernel_shape", [])
    if data is None or not str(case.attr("auto_pad", "NOTSET")).startswith("SAME"):
        return False
    strides = case.attr("strides", []) or [1] * len(kernel)
    dilations = case.attr("dilations", []) or [1] * len(kernel)
    sizes = zip(data.shape[2:], kernel, strides, dilations, strict=True)
    return any((-(-n // s) - 1) * s + (k - 1) * d + 1 < n for n, k, s, d in sizes)


def _uneven(pads: list[int]) -> bool:
    return len(set(pads)) > 1


def _backwards(case: OpCase) -> bool:
    """Steps backwards, and some start lies before the first element."""
    data, starts, steps = case.inputs[0], case.inputs[1] if len(case.inputs) > 4 else None, case.inputs[-1]
    if data is None or starts is None or steps is None:
        return False
    given = case.inputs[3]
    axes = np.arange(len(starts)) if given is None else given
    return bool(((steps < 0) & (starts < -np.array(data.shape)[axes])).any())


def _far_backwards(case: OpCase) -> bool:
    steps = case.inputs[4] if len(case.inputs) > 4 else None
    ends = case.inputs[2] if len(case.inputs) > 2 else None
    return steps is not None and ends is not None and bool(((steps < 0) & (ends >= 2**31 - 1)).any())


def _negative_end(case: OpCase) -> bool:
    return any(case.attr(name, 0) < -_rank(case) for name in ("start", "end"))


KNOWN: tuple[Known, ...] = (
    Known(
        REFERENCE,
        ("Softmax", "LogSoftmax", "Hardmax"),
        "computes along the one axis at every opset",
        "before opset 13 the input is a matrix whose rows begin at the axis (1 where none is given)",
        "Softmax-12 of shape [1, 2, 1] without an axis: each of the two elements becomes 1",
        lambda case: case.opset < 13,
    ),
    Known(
        RUNTIME,
        ("Clip",),
        "clips infinities to the largest finite number where no bound is given",
        "a bound left out bounds nothing: the operator's own function body is Identity or a single comparison then",
        "Clip-12 of [inf] without bounds gives 3.4028235e+38",
        _unbounded_infinity,
    ),
    Known(
        REFERENCE,
        ("Shape",),
        "does not clamp a start or end that lies before the first dimension",
        "'values are clamped to the range [0, r]' after the rank is added to a negative one",
        "Shape-28 of shape [1, 1] with end=-3 gives [1] instead of []",
        _negative_end,
    ),
    Known(
        REFERENCE,
        ("Unique",),
        "sorts although sorted=0 where only the values are asked for; with an axis, takes slices of axis 0",
        "'if sorted is 0, the output is in the order in which the values occur'",
        "Unique-28 of [2, 0] with sorted=0 and one output gives [0, 2]",
        lambda case: not case.attr("sorted", 1),
    ),
    Known(
        REFERENCE,
        ("ReduceSumSquare",),
        "returns int64 for int32",
        "the output has the type of the input",
        "ReduceSumSquare-17 of an int32",
        lambda case: _dtype(case) in ("int32", "uint32"),
    ),
    Known(
        REFERENCE,
        ("AffineGrid",),
        "returns float32 for float64",
        "the grid has the type of theta",
        "AffineGrid-20 with theta of float64",
        lambda case: _dtype(case) == "float64",
    ),
    Known(
        REFERENCE,
        ("BatchNormalization",),
        "mixes statistics of the batch into the given mean and variance",
        "with one output the node is in inference mode, which uses the given mean and variance",
        "BatchNormalization-13 of one element -4",
        lambda case: case.opset < 14,
    ),
    Known(
        REFERENCE,
        ("ConvTranspose",),
        "adds the first group's biases to every group",
        "B has one number per output channel",
        "ConvTranspose-28 of shape [1, 2, 2, 2] with group=2 and a bias",
        lambda case: case.attr("group", 1) > 1 and len(case.inputs) > 2,
    ),
    Known(
        REFERENCE,
        ("RNN", "GRU", "LSTM"),
        "ignores the attributes clip, input_forget and activations, and the lengths of sequences",
        "they are attributes and an input of the operators",
        "LSTM-28 with clip=0.5; GRU-28 of two steps with sequence_lens=[1]",
        lambda case: bool({"clip", "input_forget", "activations"} & set(case.attributes)) or _has(case, 4),
    ),
    Known(
        REFERENCE,
        ("GlobalMaxPool",),
        "returns another number of dimensions for inputs that are not pictures",
        "the output has the rank of the input, all spatial dimensions 1",
        "GlobalMaxPool-28 of shape [1, 1, 1] gives [1, 1]",
        lambda case: _rank(case) != 4,
    ),
    Known(
        REFERENCE,
        ("LogSoftmax",),
        "takes the logarithm of a softmax that is rounded to float16",
        "LogSoftmax = Log(Softmax) of exact numbers, which a probability of 4e-7 no longer is in float16",
        "LogSoftmax-28 of float16 [7.25, -7.5, -5.75] gives -14.69 instead of -14.75",
        lambda case: _dtype(case) == "float16",
    ),
    Known(
        REFERENCE,
        ("LayerNormalization",),
        "takes mean and variance of float16 in float16",
        "stash_type, float32 unless said otherwise, is the precision of the first stage of the computation",
        "LayerNormalization-28 of float16 [-2.98, -2.81, -2.64], epsilon 0.01 gives 0.982 instead of 0.994",
        lambda case: _dtype(case) == "float16",
    ),
    Known(
        REFERENCE,
        ("LRN",),
        "computes as many channels as there are pictures in the batch",
        "the sum of squares is of neighboring channels, for each channel",
        "LRN-28 of shape [1, 2, 1, 1] with size=1",
    ),
    Known(
        REFERENCE,
        ("LayerNormalization",),
        "returns mean and inverse deviation in the type of the input",
        "they have the type named by stash_type, which is float32 where none is given",
        "LayerNormalization-28 of float64 with three outputs",
        lambda case: _dtype(case) != "float32" and len(case.outputs) > 1,
    ),
    Known(
        REFERENCE,
        ("LpPool", "MaxPool", "AveragePool"),
        "windows that hang over the end, SAME and uneven paddings give other sizes and sums",
        "the output sizes are those of the formulas in the operator's text, and padding adds nothing to a norm",
        "LpPool-28 of 3 elements, kernel 2, stride 2, ceil_mode=1 gives 4.95 for a last window of the element 3.5; "
        "MaxPool-28 of 1 element, kernel 1, stride 2, auto_pad=SAME_LOWER gives none; MaxPool-7 of 2 elements, kernel "
        "2, pads=[0, 1] gives 1 of 2",
        lambda case: (
            bool(case.attr("ceil_mode", 0))
            or case.attr("auto_pad", "NOTSET") != "NOTSET"
            or _uneven(case.attr("pads", []))
        ),
    ),
    Known(
        REFERENCE,
        ("MaxPool",),
        "counts indices within each channel",
        "'indices are those of the flattened input tensor'",
        "MaxPool-28 of shape [1, 2, 1], kernel 1, two outputs: the second index is 0 instead of 1",
        lambda case: len(case.outputs) > 1,
    ),
    Known(
        REFERENCE,
        ("QLinearConv",),
        "adds a dimension to results that are not pictures",
        "the output has the rank of the input",
        "QLinearConv-28 of shape [1, 1, 1]",
        lambda case: _rank(case) != 4,
    ),
    Known(
        REFERENCE,
        ("RoiAlign",),
        "takes half_pixel for the default at every opset",
        "coordinate_transformation_mode came with opset 16; before, regions were not shifted",
        "RoiAlign-15",
        lambda case: case.opset < 16,
    ),
    Known(
        REFERENCE,
        ("Resize",),
        "reads at -0.5 where pytorch_half_pixel makes one element of a dimension",
        "'x_original = length_resized > 1 ? (x_resized + 0.5) / scale - 0.5 : 0'",
        "Resize-28 of shape [1, 1, 2, 1], cubic, scales [1, 1, 0.5, 2] gives -4.02 for [-4, -3.75]",
        lambda case: (
            case.attr("mode") == "cubic" and case.attr("coordinate_transformation_mode") == "pytorch_half_pixel"
        ),
    ),
    Known(
        REFERENCE,
        ("ConvInteger",),
        "takes a zero point per output channel along another axis where the weights are not of rank 4",
        "'a 1D tensor … its number of elements should be equal to the number of output channels (M)'",
        "ConvInteger of x [1, 2, 1, 1, 1], w [2, 2, 1, 1, 1], w_zero_point [0, 1]",
        lambda case: _rank(case, 1) != 4 and _has(case, 3) and _rank(case, 3) == 1,
    ),
    Known(
        REFERENCE,
        ("Unsqueeze",),
        "inserts one axis after the other in the order given",
        "'the order of values in axes does not matter', they are axes of the output",
        "Unsqueeze-12 of shape [1, 1, 2] with axes=[3, 0]",
        lambda case: case.opset < 13,
    ),
    Known(
        RUNTIME,
        ("Slice",),
        "takes the largest end for 'to the end' also where it slices backwards",
        "'for negative stepping, end is clamped to [-1, dims - 1]', so nothing lies between",
        "Slice-28 of [x] with start 0, end 2**63 - 1, step -1 gives [x] instead of []",
        _far_backwards,
    ),
    Known(
        REFERENCE,
        ("Slice",),
        "takes nothing where it slices backwards from before the first element",
        "'for negative stepping, starts are clamped to [0, dims - 1]', so the first element is taken",
        "Slice-28 of [x] with start -2, end -2**31, step -1 gives [] instead of [x]",
        _backwards,
    ),
    Known(
        RUNTIME,
        ("Resize",),
        "returns the input as it is where rounding leaves every dimension as long as it was",
        "coordinates follow from the scale, 1.25 say, and not from the lengths",
        "Resize-19 of 2 elements, nearest, ceil, half_pixel_symmetric, scale 1.25 gives [0, 1] instead of [1, 1]",
        _unchanged_lengths,
    ),
    Known(
        RUNTIME,
        ("Resize",),
        "leaves an axis as it is where tf_crop_and_resize makes its region as long as the whole was",
        "'x_original = … start_x * (length_original - 1) + x_resized * (end_x - start_x) * (length_original - 1) / …'",
        "Resize-28 of [-4, -3.75], linear, roi 0 to 0.75, scale 1 gives [-4, -3.75] instead of [-4, -3.8125]",
        _crops_to_the_same_length,
    ),
    Known(
        RUNTIME,
        ("Resize",),
        "takes a length between 1 and 2 for 1 in pytorch_half_pixel",
        "'x_original = length_resized > 1 ? …' with 'scale = length_resized / length_original', so it is not cut",
        "Resize-28 of [-4, -3.75], linear, scale 0.75 gives -4 instead of -3.96",
        _one_and_a_fraction,
    ),
    Known(
        RUNTIME,
        ("AveragePool", "LpPool", "MaxPool"),
        "begins behind the first element where SAME_UPPER has nothing to pad",
        "padding adds elements; Conv begins with the first element at times, and MaxPool is refused at times",
        "LpPool-17 of [-4, -3.75, -3.5], kernel 1, stride 3, auto_pad=SAME_UPPER gives 3.75 instead of 4; "
        "Conv-21 of [1, 2, 5, 3], weight 1, stride 4, auto_pad=SAME_UPPER gives 2 instead of 1",
        _same_without_padding,
    ),
    Known(
        RUNTIME,
        ("Attention",),
        "lets the last query see all keys of a causal attention with a cache, whatever number of keys is new",
        "'query i attends key j iff j <= i + offset', the offset being the length of the cache",
        "Attention-24 of 1 query, 2 keys and a cache of 1: query 0 attends keys 0 to 2 instead of 0 to 1",
        _causal_cache_and_more_keys_than_queries,
    ),
    Known(
        RUNTIME,
        ("Col2Im",),
        "misplaces the columns of every channel but the first for one spatial dimension",
        "each column is a block of every channel in turn",
        "Col2Im-28 of shape [1, 4, 1], image [3], block [2], dilations=[2]",
        lambda case: case.inputs[1] is not None and case.inputs[1].size == 1,
    ),
    Known(
        REFERENCE,
        ("GridSample",),
        "clamps the place itself before it interpolates with cubic and padding_mode=border",
        "not settled by the text; onnxruntime and PyTorch, which the operator follows, clamp the neighbors",
        "GridSample-28 of shape [1, 1, 1, 2]",
        lambda case: case.attr("mode") in ("cubic", "bicubic") and case.attr("padding_mode") == "border",
    ),
    Known(
        RUNTIME,
        ("ConvInteger", "MatMulInteger", "QLinearConv", "QLinearMatMul"),
        "returns memory that was not written for sums of nothing",
        "a sum of nothing is 0, so the result is 0, or the bias, as it is quantized",
        "ConvInteger-10 of shapes [2, 0, 6] and [4, 0, 2]",
        nothing.sums_nothing,
    ),
    Known(
        RUNTIME,
        ("DynamicQuantizeMatMul", "MatMulIntegerToFloat", "QAttention", "QGemm", "QLinearConv"),
        "returns memory that was not written for sums of nothing",
        "a sum of nothing is 0, so the result is 0, or the bias, as it is quantized",
        "QGemm of shapes [5, 0] and [0, 5]",
        nothing.sums_nothing,
        CONTRIB,
    ),
    Known(
        RUNTIME,
        ("ReduceMean",),
        "returns 0 for the mean of nothing",
        "'reduction over an empty set of values yields undefined'; numpy, as which the operator behaves, gives NaN",
        "ReduceMean-11 of shape [2, 0] with axes=[-1]",
        nothing.averages_nothing,
    ),
    Known(
        RUNTIME,
        ("NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss"),
        "returns 0 for the mean of no losses",
        "the mean is the sum divided by the number of losses, or by the sum of their weights: 0 / 0",
        "SoftmaxCrossEntropyLoss-13 of scores [4, 4, 0] and labels [4, 0]",
        nothing.loses_nothing,
    ),
    Known(
        RUNTIME,
        ("DynamicQuantizeLinear",),
        "returns a scale of 1 for nothing",
        "'y_scale = (maximum(0, max(x)) - minimum(0, min(x))) / (qmax - qmin)', of which 0 is left",
        "DynamicQuantizeLinear-11 of shape [0]",
        nothing.measures_nothing,
    ),
    Known(
        RUNTIME,
        ("GRU", "LSTM", "RNN"),
        "returns 0 as the last state where no step was made, or ends the process",
        "the last state is the one after the last step, and before the first step it is the initial one",
        "RNN-14 of shape [0, 2, 2] with an initial_h",
        nothing.makes_no_step,
    ),
    Known(
        RUNTIME,
        ("DynamicQuantizeLSTM",),
        "returns 0 as the last states where no step was made",
        "the last state is the one after the last step, and before the first step it is the initial one",
        "DynamicQuantizeLSTM of shape [0, 2, 1] with an initial_h",
        nothing.makes_no_step,
        CONTRIB,
    ),
    Known(
        RUNTIME,
        ("Compress",),
        "leaves out what the condition chooses beyond the axis",
        "the length of the condition 'can be less than the input length along the axis', not more",
        "Compress-11 of shape [1, 1, 0, 0] with axis=3 and the condition [False, True]",
        nothing.chooses_beyond_the_axis,
    ),
    Known(
        RUNTIME,
        ("RoiAlign",),
        "reads the memory before a map without elements",
        "there is nothing to interpolate, of which the average is 0 as it is outside of a map",
        "RoiAlign-16 of a map [1, 3, 0, 5]",
        nothing.measures_nothing,
    ),
    Known(
        RUNTIME,
        ("Squeeze",),
        "takes an empty list of axes for none given, and removes every axis of size 1",
        "'if axes is not provided, all the single dimensions will be removed': an empty list is provided",
        "Squeeze-20 of shape [1, 1, 1] with axes of shape [0]",
        nothing.squeezes_no_axis,
    ),
    Known(
        REFERENCE,
        ("TreeEnsembleRegressor",),
        "returns scores of the type of the features",
        "the type of Y is tensor(float), whatever X is",
        "TreeEnsembleRegressor-3 of float64[1, 1]",
        lambda case: _dtype(case) != "float32",
        ML,
    ),
    Known(
        REFERENCE,
        ("TreeEnsemble", "TreeEnsembleRegressor"),
        "returns the largest or least number of the type where no leaf that is reached says anything of a target",
        "not settled by the text; onnxruntime, whose operator it was, gives 0",
        "TreeEnsemble-5 with aggregate_function=2 and n_targets=2, of leaves that speak of target 0",
        lambda case: case.attr("aggregate_function") in (2, 3, "MIN", "MAX") and case.attr("n_targets", 1) > 1,
        ML,
    ),
)


def excuse(judge: str, case: OpCase) -> str:
    """Why the judge's answer does not count; "" where it does."""
    for known in KNOWN:
        if known.judge == judge and (case.domain, case.op) in known.operators and known.when(case):
            return known.why
    return ""
