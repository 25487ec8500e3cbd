"""Operators of floats, and the operators of quantized numbers that do the same."""

from __future__ import annotations

from collections.abc import Callable

from mace_core.graph import Node, Value
from mace_cpu.quantized.integer_form import INTEGERS, RESIZE_INPUTS, Quantized
from mace_cpu.quantized.rewriting.bounds import as_attributes
from mace_cpu.quantized.rewriting.graph import Rewriting, integer, integers
from mace_cpu.quantized.rewriting.products import convolution, factor, gemm, matmul
from mace_cpu.quantized.rewriting.results import Wanted
from mace_cpu.shared.nodes import attribute_or_input, normal_axis

Rule = Callable[[Rewriting, Node, Wanted], "Value | str"]

EXPENSIVE = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
"""What is not computed twice, in integers and in floats."""


def pair(rewriting: Rewriting, node: Node, wanted: Wanted) -> Value | str:
    """A sum, difference, product or quotient of two values; a sum may be the bias of a product."""
    if node.op_type == "Add":
        product = _biased_product(rewriting, node, wanted)
        if product is not None:
            return product
    known: list[Quantized] = []
    for index, what in enumerate(("first operand", "second operand")):
        found = factor(rewriting, node, index, what)
        if isinstance(found, str):
            return found
        known.append(found)
    inputs = [*known[0].inputs, *known[1].inputs, wanted.scale, wanted.zero]
    attributes = as_attributes(wanted.bounds)
    return wanted.make(rewriting, f"QLinear{node.op_type}", inputs, node, domain=INTEGERS, attributes=attributes)


def _biased_product(rewriting: Rewriting, node: Node, wanted: Wanted) -> Value | str | None:
    """The product that a constant is added to, with that as its bias; None where it is none."""
    for value, other in (node.inputs, node.inputs[::-1]):
        producer = None if value is None else rewriting.producers.get(value)
        if producer is None or value is None or producer.op_type != "MatMul" or producer.domain:
            continue
        if rewriting.real(other) is None or value in rewriting.quantized or not rewriting.is_only_read_by(value, node):
            continue
        if rewriting.shape(value) != rewriting.shape(wanted.real):
            continue
        behind = Wanted(
            wanted.real,
            wanted.encoding,
            wanted.scale,
            wanted.zero,
            wanted.bounds,
            wanted.into,
            (node, *wanted.behind),
        )
        return matmul(rewriting, producer, behind, other)
    return None


def single(rewriting: Rewriting, node: Node, wanted: Wanted) -> Value | str:
    """Operators of one input: pools, means, softmax, resizing."""
    x = factor(rewriting, node, 0, "input")
    if isinstance(x, str):
        return x
    attributes = {**node.attributes, **as_attributes(wanted.bounds)}
    op_type = node.op_type
    if op_type == "ReduceMean":
        shape = rewriting.shape(x.value)
        axes = attribute_or_input(rewriting.view, node, "axes", 1)
        if axes is None and node.input(1) is not None:
            return "the axes it takes the mean over are not known before the run"
        if axes is None and not node.attr("noop_with_empty_axes", 0):
            axes = list(range(len(shape)))
        axes = sorted(normal_axis(axis, len(shape)) for axis in axes or ())
        keeps = int(node.attr("keepdims", 1))
        attributes = {"axes": integers(axes), "keepdims": integer(keeps), **as_attributes(wanted.bounds)}
        if len(shape) > 2 and keeps and axes == list(range(2, len(shape))):
            op_type, attributes = "GlobalAveragePool", as_attributes(wanted.bounds)
    inputs = [*x.inputs, wanted.scale, wanted.zero]
    return wanted.make(rewriting, f"QLinear{op_type}", inputs, node, domain=INTEGERS, attributes=attributes)


def resize(rewriting: Rewriting, node: Node, wanted: Wanted) -> Value | str:
    """Interpolation; Resize to the nearest is a move."""
    x = factor(rewriting, node, 0, "input")
    if isinstance(x, str):
        return x
    own = [rewriting.current(node.input(index)) for index in range(1, RESIZE_INPUTS)]
    inputs = [x.value, *own, x.scale, x.zero, *wanted.ending]
    attributes = {**node.attributes, **as_attributes(wanted.bounds)}
    return wanted.make(rewriting, "QLinearResize", inputs, node, domain=INTEGERS, attributes=attributes)


RULES: dict[str, Rule] = {
    "Conv": convolution,
    "ConvTranspose": convolution,
    "MatMul": matmul,
    "Gemm": gemm,
    "Resize": resize,
    **dict.fromkeys(("Add", "Sub", "Mul", "Div"), pair),
    **dict.fromkeys(("AveragePool", "GlobalAveragePool", "ReduceMean", "Softmax"), single),
}
"""The rule of each operator of the default domain that has a form in integers."""
