"""Nodes that make bytes of floats by the range of each row become one node of `ROWS`.

What stands for 0 is the zero point of the ConvInteger behind it where there is one row alone, so that the convolution
pads with it, and nothing is to be taken off its sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mace_core.graph import Attribute, AttributeKind, GraphView, Node, Value
from mace_core.graph.windows import spatial_zeros
from mace_core.symbolic import is_same
from mace_core.tensor import DType, TensorType
from mace_cpu.quantized.rewriting.graph import Rewriting, Rewritten, integers
from mace_cpu.quantized.rows.patterns import BYTES, OFF, PADDED, SIZES, ZERO
from mace_cpu.quantized.rows.template import Matcher, Pattern, moves_one_number
from mace_cpu.shared.nodes import need
from mace_cpu.shared.parts.facts import Settings
from mace_cpu.shared.program.floats_last import ROWS
from mace_cpu.shared.registry import LOWERINGS, Notes, before_lowering

_SHAPERS = frozenset({"Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})
"""Operators that give one number another shape."""


@dataclass(frozen=True, slots=True)
class _Found:
    """A QuantizeRows, and what else stands in the place of nodes.

    Attributes:
        node: the QuantizeRows.
        others: nodes behind it.
    """

    node: Node
    others: tuple[Node, ...]


@before_lowering(turn=4)
def join_rows(view: GraphView, _settings: Settings, _notes: Notes) -> GraphView:
    """``view`` with a QuantizeRows for each group of nodes that are one: x to bytes, the byte for 0, size of a step."""
    producers = {value: node for node in view.nodes for value in node.outputs if value is not None}
    made = [found for node in view.nodes if (found := _found(view, node, producers)) is not None]
    if not made:
        return view
    others = {need(node.output(0)): node for found in made for node in found.others}
    replaced = {value for found in made for value in found.node.outputs if value is not None}
    rewriting = Rewriting(view)
    behind: dict[Node | None, list[Node]] = {}
    for found in made:
        behind.setdefault(producers.get(need(found.node.input(0))), []).append(found.node)
    rewriting.nodes = behind.get(None, [])
    for node in view.nodes:
        if moves_one_number(view, node):
            source = rewriting.current(node.input(0))
            assert source is not None
            rewriting.share(need(node.output(0)), source, node)
        elif node.output(0) in others:
            rewriting.nodes.append(others[need(node.output(0))])
        elif not replaced.intersection(node.outputs):
            rewriting.keep(node)
        rewriting.nodes += behind.get(node, [])
    return Rewritten(view, rewriting.needed())


def _found(view: GraphView, node: Node, producers: dict[Value, Node]) -> _Found | None:
    if node.op_type != "Cast" or node.domain or int(node.attr("to", 0)) != DType.UINT8.value:
        return None
    for patterns in (BYTES, PADDED):
        for rule, pattern in patterns.items():
            matcher = Matcher(view, producers)
            if matcher.matches(node.output(0), pattern):
                return _made(view, node, rule, matcher, producers)
    return None


def _made(view: GraphView, node: Node, rule: str, matcher: Matcher, producers: dict[Value, Node]) -> _Found | None:
    axes, pads = view.constant(matcher.found["axes"]), matcher.found.get("pads")
    if axes is None:
        return None
    x, content = matcher.found["x"], need(node.output(0))
    zero = _user(view, matcher, "unsigned", ZERO)
    size = matcher.found["size"] if rule == "away" else _user(view, matcher, "per_unit", SIZES[rule])
    others: tuple[Node, ...] = ()
    if zero is not None and _is_one(view, zero):
        inner = content
        if pads is not None:
            kind = view.tensor_type(x)
            assert kind is not None
            inner = Value(f"{content.name}/unpadded", TensorType(DType.UINT8, kind.shape))
        matcher.found["zero"] = zero
        other = _convolution(view, matcher, content, inner)
        if other is not None:
            content, others = inner, (other,)
    if zero is not None and size is not None and not others and pads is None:
        matcher.found["zero"] = zero
        others = tuple(
            made for user in view.users(content) if (made := _product(view, matcher, user, size)) is not None
        )
    if pads is not None and not others:
        return None
    reader = others[0] if others else _with_zero(view, content, zero, producers)
    around = None if reader is None or reader.op_type != "ConvInteger" else _zeros_around(view, x, producers)
    if reader is not None and around is not None:
        x, content, others = _padding_itself(view, around, content, reader, need(zero))
    made = Node(
        "QuantizeRows",
        [x],
        (),
        name=node.name,
        domain=ROWS,
        attributes={
            "axes": integers(int(axis) for axis in axes.numpy().reshape(-1)),
            "rule": Attribute(AttributeKind.STRING, rule),
        },
        source=node.source,
    )
    made.outputs = [content, zero, size]
    lowering = LOWERINGS.find(ROWS, made.op_type)
    return _Found(made, others) if lowering is not None and lowering.check(view, made) is None else None


def _zeros_around(view: GraphView, value: Value, producers: dict[Value, Node]) -> tuple[Value, Sequence[int]] | None:
    """What a Pad put zeros around, along spatial axes, to make ``value``, and how many, as a convolution gives them.

    Every range holds 0: with the zeros or without, a row is rounded by the same.
    """
    node = producers.get(value)
    zeros = None if node is None else spatial_zeros(node, view.constant)
    return None if node is None or zeros is None else (need(node.input(0)), zeros)


def _with_zero(view: GraphView, content: Value, zero: Value | None, producers: dict[Value, Node]) -> Node | None:
    """The convolution that alone reads the bytes, and knows which of them is 0."""
    users = view.users(content)
    if len(users) != 1 or view.is_output(content) or zero is None:
        return None
    (node,) = users
    if node.op_type != "ConvInteger" or node.domain or node.input(0) is not content or len(node.inputs) != 3:
        return None
    known = need(node.input(2))
    while known is not zero:
        mover = producers.get(known)
        if mover is None or mover.domain or mover.op_type not in _SHAPERS:
            return None
        known = need(mover.input(0))
    return node if node.attr("auto_pad", "NOTSET") == "NOTSET" else None


def _padding_itself(
    view: GraphView, around: tuple[Value, Sequence[int]], content: Value, convolution: Node, zero: Value
) -> tuple[Value, Value, tuple[Node, ...]]:
    """The floats without the zeros, their bytes, and the convolution that pads these itself."""
    source, zeros = around
    kind = view.tensor_type(source)
    assert kind is not None
    bare = Value(f"{content.name}/bare", TensorType(DType.UINT8, kind.shape))
    own = convolution.attr("pads") or (0,) * len(zeros)
    pads = integers(int(a) + b for a, b in zip(own, zeros, strict=True))
    made = Node(
        convolution.op_type,
        [bare, need(convolution.input(1)), zero],
        (),
        name=convolution.name,
        attributes={**convolution.attributes, "pads": pads},
        source=convolution.source,
    )
    made.outputs = list(convolution.outputs)
    return source, bare, (made,)


def _user(view: GraphView, matcher: Matcher, name: str, pattern: Pattern) -> Value | None:
    """What is computed of a value as ``pattern`` says; None where nothing is."""
    for node in view.users(matcher.found[name]):
        if matcher.matches(node.output(0), pattern):
            return need(node.output(0))
    return None


def _product(view: GraphView, matcher: Matcher, node: Node, size: Value) -> Node | None:
    """A RowProduct that computes what a product of the bytes less ``OFF`` does: bytes, weights, bytes for 0, sizes."""
    weights, result = view.constant(node.input(1)), node.output(0)
    if weights is None or node.domain or len(node.inputs) != 2 or result is None or view.is_output(result):
        return None
    whole, behind = weights.numpy(), view.users(result)
    if len(behind) != 1 or behind[0].op_type != "Sub" or behind[0].domain or behind[0].input(0) is not result:
        return None
    if node.op_type == "ConvInteger":
        given = ("pads", "strides", "dilations", "group", "auto_pad")
        if (
            whole.ndim != 4
            or any(size != 1 for size in whole.shape[2:])
            or any(name in node.attributes for name in given)
        ):
            return None
        totals = whole.sum((1, 2, 3), dtype=np.int64).reshape(-1, 1, 1)
    elif node.op_type == "MatMulInteger" and whole.ndim == 2:
        totals = whole.sum(0, dtype=np.int64)
    else:
        return None
    matcher.found.pop("totals", None)
    if not matcher.matches(behind[0].input(1), OFF):
        return None
    held = view.constant(matcher.found["totals"])
    if held is None or not np.array_equal(held.numpy(), totals):
        return None
    made = Node(
        "RowProduct",
        [node.input(0), node.input(1), matcher.found["zero"], size],
        (),
        name=node.name,
        domain=ROWS,
        source=node.source,
    )
    made.outputs = [need(behind[0].output(0))]
    lowering = LOWERINGS.find(ROWS, made.op_type)
    return made if lowering is not None and lowering.check(view, made) is None else None


def _is_one(view: GraphView, value: Value) -> bool:
    found = view.tensor_type(value)
    return found is not None and found.is_concrete and all(is_same(size, 1) for size in found.concrete_shape)


def _convolution(view: GraphView, matcher: Matcher, content: Value, inner: Value) -> Node | None:
    """The ConvInteger of ``inner``, with a zero point, that computes what one of ``content`` less ``OFF`` does."""
    users = view.users(content)
    if len(users) != 1 or view.is_output(content):
        return None
    node = users[0]
    weights = view.constant(node.input(1))
    if node.op_type != "ConvInteger" or node.domain or weights is None or len(node.inputs) != 2:
        return None
    behind = view.users(need(node.output(0)))
    if len(behind) != 1 or view.is_output(need(node.output(0))) or behind[0].op_type != "Sub" or behind[0].domain:
        return None
    less = behind[0]
    if less.input(0) is not node.output(0) or not matcher.matches(less.input(1), OFF):
        return None
    whole, totals = weights.numpy(), view.constant(matcher.found["totals"])
    sums = whole.reshape(len(whole), -1).sum(1, dtype=np.int64)
    if totals is None or not np.array_equal(totals.numpy(), sums.reshape(-1, *(1,) * (whole.ndim - 2))):
        return None
    attributes = dict(node.attributes)
    if content is not inner:
        pads = view.constant(matcher.found["pads"])
        rank = whole.ndim
        if pads is None or pads.shape != (2 * rank,) or any(node.attr("pads") or ()) or node.attr("auto_pad"):
            return None
        around = [int(count) for count in pads.numpy()]
        if any(around[axis] for axis in (0, 1, rank, rank + 1)) or min(around) < 0:
            return None
        attributes["pads"] = integers([*around[2:rank], *around[rank + 2 :]])
    elif any(node.attr("pads") or ()) or node.attr("auto_pad"):
        return None  # around the image is the byte 0 there
    made = Node(
        "ConvInteger",
        [inner, need(node.input(1)), matcher.found["zero"]],
        (),
        name=node.name,
        attributes=attributes,
        source=node.source,
    )
    made.outputs = [need(less.output(0))]
    return made
