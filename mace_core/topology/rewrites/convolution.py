"""Convolutions and poolings in the forms that more devices have."""

from __future__ import annotations

from typing import Any

import numpy as np

from mace_core.graph import Attribute, Node, Value
from mace_core.operators.bodies import given, kept, made
from mace_core.topology.rule import RuleBuilder, rule

_POOLS = ("MaxPool", "AveragePool", "LpPool")


class _Window:
    """The attributes of a convolution or pooling, each with its default."""

    def __init__(self, b: RuleBuilder, node: Node, kernel: tuple[int, ...]) -> None:
        rank = len(kernel)
        self.kernel = kernel
        self.strides = [int(n) for n in node.attr("strides") or [1] * rank]
        self.dilations = [int(n) for n in node.attr("dilations") or [1] * rank]
        self.begins, self.ends = _pads(node, b.shape(given(node, 0))[2:], kernel, self.strides, self.dilations)

    @property
    def pads(self) -> list[int]:
        return [*self.begins, *self.ends]


def _pads(
    node: Node, sizes: tuple[int, ...], kernel: tuple[int, ...], strides: list[int], dilations: list[int]
) -> tuple[list[int], list[int]]:
    mode, rank = node.attr("auto_pad", "NOTSET"), len(kernel)
    mode = mode if isinstance(mode, str) else mode.decode()
    if mode in ("NOTSET", ""):
        pads = [int(n) for n in node.attr("pads") or [0] * (2 * rank)]
        return pads[:rank], pads[rank:]
    if mode == "VALID":
        return [0] * rank, [0] * rank
    begins, ends = [], []
    for size, k, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        needed = max((-(-size // stride) - 1) * stride + (k - 1) * dilation + 1 - size, 0)
        less, more = needed // 2, needed - needed // 2
        begins.append(more if mode == "SAME_LOWER" else less)
        ends.append(less if mode == "SAME_LOWER" else more)
    return begins, ends


def _conv_window(b: RuleBuilder, node: Node) -> _Window:
    return _Window(b, node, b.shape(given(node, 1))[2:])


def _pool_window(b: RuleBuilder, node: Node) -> _Window:
    return _Window(b, node, tuple(int(n) for n in node.attr("kernel_shape")))


def _is_plain_pool(node: Node) -> bool:
    """Without indices and without rounding up."""
    return node.output(1) is None and not node.attr("ceil_mode", 0)


@rule("explicit padding in the place of auto_pad", "Conv", *_POOLS, exact=True)
def explicit_pads(b: RuleBuilder, node: Node) -> bool:
    mode = node.attr("auto_pad", "NOTSET")
    if mode in ("NOTSET", "", b"NOTSET", b"") or any(output is not None for output in node.outputs[1:]):
        return False
    window = _conv_window(b, node) if node.op_type == "Conv" else _pool_window(b, node)
    attributes: dict[str, Any] = {**kept(node, "auto_pad", "pads", "ceil_mode"), "pads": window.pads}
    b.op(node.op_type, node.inputs, attributes, into=made(node))
    return True


@rule("Conv of one dimension as Conv of two", "Conv", exact=True)
def conv_1d(b: RuleBuilder, node: Node) -> bool:
    x, weights = given(node, 0), given(node, 1)
    if len(b.shape(x)) != 3:
        return False
    window = _conv_window(b, node)
    n, c, length = b.shape(x)
    filters = b.shape(weights)
    wide = b.op(
        "Conv",
        [b.reshaped(x, (n, c, 1, length)), _wide_weights(b, weights, filters), *node.inputs[2:]],
        {
            **kept(node, "auto_pad", "kernel_shape", "pads", "strides", "dilations"),
            "kernel_shape": [1, filters[2]],
            "pads": [0, window.begins[0], 0, window.ends[0]],
            "strides": [1, window.strides[0]],
            "dilations": [1, window.dilations[0]],
        },
    )
    b.reshaped(wide, b.shape(made(node)), into=made(node))
    return True


def _wide_weights(b: RuleBuilder, weights: Value, shape: tuple[int, ...]) -> Value:
    content = b.content(weights)
    wide = (*shape[:2], 1, shape[2])
    return b.reshaped(weights, wide) if content is None else b.constant(content.reshape(wide))


@rule("pooling of one dimension as pooling of two", *_POOLS, exact=True)
def pool_1d(b: RuleBuilder, node: Node) -> bool:
    x = given(node, 0)
    if len(b.shape(x)) != 3 or node.output(1) is not None:
        return False
    window = _pool_window(b, node)
    n, c, length = b.shape(x)
    attributes: dict[str, Any] = {
        **kept(node, "auto_pad", "kernel_shape", "pads", "strides", "dilations"),
        "kernel_shape": [1, window.kernel[0]],
        "pads": [0, window.begins[0], 0, window.ends[0]],
        "strides": [1, window.strides[0]],
    }
    if "dilations" in node.attributes:
        attributes["dilations"] = [1, window.dilations[0]]
    wide = b.op(node.op_type, [b.reshaped(x, (n, c, 1, length))], attributes)
    b.reshaped(wide, b.shape(made(node)), into=made(node))
    return True


@rule("padding apart from the convolution", "Conv", exact=True)
def pad_apart(b: RuleBuilder, node: Node) -> bool:
    window = _conv_window(b, node)
    if not any(window.pads) or min(window.pads) < 0:
        return False
    x = b.padded(given(node, 0), [0, 0, *window.begins, 0, 0, *window.ends])
    attributes: dict[str, Any] = {**kept(node, "auto_pad", "pads"), "pads": [0] * len(window.pads)}
    b.op("Conv", [x, *node.inputs[1:]], attributes, into=made(node))
    return True


@rule("dilation in the weights, as zeros", "Conv", exact=True)
def dilated_weights(b: RuleBuilder, node: Node) -> bool:
    content, window = b.content(given(node, 1)), _conv_window(b, node)
    if content is None or all(dilation == 1 for dilation in window.dilations):
        return False
    spread = _spread(content, window.dilations)
    attributes: dict[str, Any] = {
        **kept(node, "auto_pad", "dilations", "kernel_shape", "pads"),
        "kernel_shape": list(spread.shape[2:]),
        "pads": window.pads,
    }
    b.op("Conv", [given(node, 0), b.constant(spread), *node.inputs[2:]], attributes, into=made(node))
    return True


def _spread(weights: Any, dilations: list[int]) -> Any:
    """Zeros between the weights."""
    sizes = [(k - 1) * d + 1 for k, d in zip(weights.shape[2:], dilations, strict=True)]
    found = np.zeros((*weights.shape[:2], *sizes), weights.dtype)
    found[(slice(None), slice(None), *(slice(None, None, d) for d in dilations))] = weights
    return found


@rule("Conv of three dimensions as Conv of two over planes beside each other", "Conv")
def conv_3d(b: RuleBuilder, node: Node) -> bool:
    x, content = given(node, 0), b.content(given(node, 1))
    if len(b.shape(x)) != 5 or content is None or int(node.attr("group", 1)) != 1:
        return False
    window = _conv_window(b, node)
    if min(window.pads) < 0:
        return False
    n, c, depth, height, width = b.shape(x)
    if window.begins[0] or window.ends[0]:
        x = b.padded(x, [0, 0, window.begins[0], 0, 0, 0, 0, window.ends[0], 0, 0])
        depth += window.begins[0] + window.ends[0]
    out_depth = b.shape(made(node))[2]
    planes = []
    for k in range(window.kernel[0]):
        start = k * window.dilations[0]
        stop = start + (out_depth - 1) * window.strides[0] + 1
        piece = b.sliced(x, 2, start, stop, window.strides[0])  # n, c, out_depth, h, w
        planes.append(b.turned(piece, (0, 2, 1, 3, 4)))
    stacked = planes[0] if len(planes) == 1 else b.op("Concat", planes, {"axis": 2})
    flat = b.reshaped(stacked, (n * out_depth, window.kernel[0] * c, height, width))
    filters = content.transpose(0, 2, 1, 3, 4).reshape(content.shape[0], -1, *content.shape[3:])
    result = b.op(
        "Conv",
        [flat, b.constant(np.ascontiguousarray(filters)), *node.inputs[2:]],
        {
            "kernel_shape": list(content.shape[3:]),
            "pads": [*window.begins[1:], *window.ends[1:]],
            "strides": window.strides[1:],
            "dilations": window.dilations[1:],
        },
    )
    _, m, _, out_h, out_w = b.shape(made(node))
    b.turned(b.reshaped(result, (n, out_depth, m, out_h, out_w)), (0, 2, 1, 3, 4), into=made(node))
    return True


@rule("pooling of three dimensions as two poolings", "MaxPool", "AveragePool")
def pool_3d(b: RuleBuilder, node: Node) -> bool:
    x = given(node, 0)
    if len(b.shape(x)) != 5 or not _is_plain_pool(node):
        return False
    window = _pool_window(b, node)
    if node.op_type == "AveragePool" and any(window.pads) and not node.attr("count_include_pad", 0):
        return False  # how many are averaged is no product then
    n, c, depth, height, width = b.shape(x)
    _, _, out_d, out_h, out_w = b.shape(made(node))
    attributes = kept(node, "auto_pad", "kernel_shape", "pads", "strides", "dilations")
    is_dilated = "dilations" in node.attributes

    def pooled(value: Value, kernel: list[int], pads: list[int], strides: list[int], dilations: list[int]) -> Value:
        own: dict[str, Any] = {**attributes, "kernel_shape": kernel, "pads": pads, "strides": strides}
        return b.op(node.op_type, [value], {**own, **({"dilations": dilations} if is_dilated else {})})

    w = window
    flat = b.reshaped(x, (n, c * depth, height, width))
    planes = pooled(flat, list(w.kernel[1:]), [*w.begins[1:], *w.ends[1:]], w.strides[1:], w.dilations[1:])
    deep = b.reshaped(planes, (n, c, depth, out_h * out_w))
    pads = [w.begins[0], 0, w.ends[0], 0]
    result = pooled(deep, [w.kernel[0], 1], pads, [w.strides[0], 1], [w.dilations[0], 1])
    b.reshaped(result, (n, c, out_d, out_h, out_w), into=made(node))
    return True


@rule("ConvTranspose with explicit padding, without output_padding", "ConvTranspose")
def transposed_plainly(b: RuleBuilder, node: Node) -> bool:
    """What output_padding adds is more of the uncut result, and behind its end zeros and the bias."""
    x, weights = given(node, 0), given(node, 1)
    rank = len(b.shape(x)) - 2
    strides = [int(n) for n in node.attr("strides") or [1] * rank]
    dilations = [int(n) for n in node.attr("dilations") or [1] * rank]
    kernel, out = b.shape(weights)[2:], b.shape(made(node))[2:]
    mode = node.attr("auto_pad", "NOTSET")
    is_plain = mode in ("NOTSET", b"NOTSET", "") and "output_shape" not in node.attributes
    if is_plain and not any(node.attr("output_padding") or []):
        return False
    if not is_plain:
        extra = [int(n) for n in node.attr("output_padding") or [0] * rank]
        begins = []
        for i in range(rank):
            total = strides[i] * (b.shape(x)[2 + i] - 1) + extra[i] + (kernel[i] - 1) * dilations[i] + 1 - out[i]
            if total < 0:
                return False
            begins.append(total // 2 if mode in ("SAME_UPPER", b"SAME_UPPER") else total - total // 2)
    else:
        begins = [int(n) for n in (node.attr("pads") or [0] * (2 * rank))[:rank]]
    ends, missing = [], []
    for i in range(rank):
        whole = strides[i] * (b.shape(x)[2 + i] - 1) + (kernel[i] - 1) * dilations[i] + 1
        cut = whole - begins[i] - out[i]
        ends.append(max(cut, 0))
        missing.append(max(-cut, 0))
    bias = node.input(2)
    attributes: dict[str, Any] = {
        **kept(node, "auto_pad", "output_padding", "output_shape", "pads"),
        "pads": [*begins, *ends],
    }
    if not any(missing):
        b.op("ConvTranspose", node.inputs, attributes, into=made(node))
        return True
    plain = b.op("ConvTranspose", [x, weights], attributes)
    full = b.padded(plain, [0] * (rank + 2) + [0, 0, *missing])
    if bias is None:
        b.op("Identity", [full], into=made(node))
    else:
        b.op("Add", [full, b.reshaped(bias, (1, -1, *[1] * rank))], into=made(node))
    return True


@rule("ConvTranspose in groups, one after the other", "ConvTranspose", exact=True)
def transposed_in_groups(b: RuleBuilder, node: Node) -> bool:
    groups, content = int(node.attr("group", 1)), b.content(given(node, 1))
    if groups == 1 or groups > 64 or content is None:
        return False
    x, bias = given(node, 0), node.input(2)
    c, m = b.shape(x)[1] // groups, content.shape[1]
    added = None if bias is None else b.content(bias)
    if bias is not None and added is None:
        return False
    results = []
    for g in range(groups):
        inputs = [b.sliced(x, 1, g * c, (g + 1) * c), b.constant(np.ascontiguousarray(content[g * c : (g + 1) * c]))]
        if added is not None:
            inputs.append(b.constant(np.ascontiguousarray(added[g * m : (g + 1) * m])))
        results.append(b.op("ConvTranspose", inputs, kept(node, "group")))
    b.op("Concat", results, {"axis": 1}, into=made(node))
    return True


@rule("ConvTranspose of one dimension as one of two", "ConvTranspose", exact=True)
def transposed_1d(b: RuleBuilder, node: Node) -> bool:
    x, weights = given(node, 0), given(node, 1)
    if len(b.shape(x)) != 3 or node.attr("auto_pad", "NOTSET") not in ("NOTSET", b"NOTSET", ""):
        return False
    if "output_shape" in node.attributes:
        return False
    n, c, length = b.shape(x)
    pads = [int(p) for p in node.attr("pads") or (0, 0)]
    attributes: dict[str, Any] = {
        **kept(node, "kernel_shape", "pads", "strides", "dilations", "output_padding"),
        "kernel_shape": [1, b.shape(weights)[2]],
        "pads": [0, pads[0], 0, pads[1]],
        "strides": [1, int((node.attr("strides") or (1,))[0])],
        "dilations": [1, int((node.attr("dilations") or (1,))[0])],
        "output_padding": [0, int((node.attr("output_padding") or (0,))[0])],
    }
    inputs = [b.reshaped(x, (n, c, 1, length)), _wide_weights(b, weights, b.shape(weights)), *node.inputs[2:]]
    b.reshaped(b.op("ConvTranspose", inputs, attributes), b.shape(made(node)), into=made(node))
    return True


@rule("LpPool as AveragePool of powers", "LpPool")
def lp_pool(b: RuleBuilder, node: Node) -> bool:
    p = int(node.attr("p", 2))
    if p not in (1, 2) or not _is_plain_pool(node) or any(int(d) != 1 for d in node.attr("dilations") or ()):
        return False
    window, x = _pool_window(b, node), given(node, 0)
    powered = b.op("Abs", [x]) if p == 1 else b.op("Mul", [x, x])
    attributes: dict[str, Any] = {
        "kernel_shape": list(window.kernel),
        "pads": window.pads,
        "strides": window.strides,
        "count_include_pad": 1,
    }
    averaged = b.op("AveragePool", [powered], attributes)
    count = b.scalar_like(float(np.prod(window.kernel)), x)
    if p == 1:
        b.op("Mul", [averaged, count], into=made(node))
    else:
        b.op("Sqrt", [b.op("Mul", [averaged, count])], into=made(node))
    return True


@rule("LRN as AveragePool over channels", "LRN")
def local_response(b: RuleBuilder, node: Node) -> bool:
    x, size = given(node, 0), int(node.attr("size"))
    shape = b.shape(x)
    if len(shape) != 4:
        return False
    n, c, h, w = shape
    before = (size - 1) // 2
    column = b.reshaped(b.op("Mul", [x, x]), (n, 1, c, h * w))
    padded = b.padded(column, [0, 0, before, 0, 0, 0, size - 1 - before, 0])
    averaged = b.op("AveragePool", [padded], {"kernel_shape": [size, 1], "strides": [1, 1]})
    averaged = b.reshaped(averaged, shape)
    scaled = b.op("Mul", [averaged, b.scalar_like(float(node.attr("alpha", 1e-4)), x)])
    base = b.op("Add", [scaled, b.scalar_like(float(node.attr("bias", 1.0)), x)])
    power = b.op("Pow", [base, b.scalar_like(float(node.attr("beta", 0.75)), x)])
    b.op("Div", [x, power], into=made(node))
    return True


@rule("without results that nobody reads", "MaxPool", "Dropout", "BatchNormalization", "LayerNormalization", exact=True)
def unread_results(b: RuleBuilder, node: Node) -> bool:
    extra = [output for output in node.outputs[1:] if output is not None]
    if not extra or any(b.view.users(output) or b.view.is_output(output) for output in extra):
        return False
    b.graph.outputs = [made(node)]
    attributes: dict[str, Attribute] = dict(node.attributes)
    b.op(node.op_type, node.inputs, attributes, into=made(node))
    return True
