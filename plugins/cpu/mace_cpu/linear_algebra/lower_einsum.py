"""Einsum."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mace_core.graph import GraphView, Node
from mace_core.native.numba_kernel import numba_source
from mace_cpu.shared.checks import NUMBERS, all_concrete, dtype_in
from mace_cpu.shared.layouts.strided import strides_of
from mace_cpu.shared.nodes import need
from mace_cpu.shared.program.program import Program
from mace_cpu.shared.registry import lowers


@dataclass(frozen=True, slots=True)
class Terms:
    """An equation over concrete shapes: the indices kept and summed over, and sizes of all."""

    operands: tuple[tuple[str, ...], ...]
    kept: tuple[str, ...]
    summed: tuple[str, ...]
    sizes: dict[str, int]


def parse(equation: str, shapes: Sequence[Sequence[int]]) -> Terms:
    """Read an equation; an ellipsis stands for indices called 0, 1, … counted from the last.

    Raises:
        ValueError: if the equation does not fit the shapes.
    """
    left, arrow, right = equation.replace(" ", "").partition("->")
    parts = left.split(",")
    if len(parts) != len(shapes):
        raise ValueError(f"the equation has {len(parts)} operands, the node {len(shapes)}")
    sizes: dict[str, int] = {}
    operands: list[tuple[str, ...]] = []
    widest = 0
    for part, shape in zip(parts, shapes, strict=True):
        before, dots, after = part.partition("...")
        extra = len(shape) - len(before) - len(after)
        if extra < 0 or (extra and not dots):
            raise ValueError(f"'{part}' does not fit {len(shape)} dimensions")
        widest = max(widest, extra)
        indices = (*before, *(str(i) for i in reversed(range(extra))), *after)
        for index, size in zip(indices, shape, strict=True):
            known = sizes.setdefault(index, size)
            if known != size and 1 not in (known, size):
                raise ValueError(f"index '{index}' has sizes {known} and {size}")
            sizes[index] = size if known == 1 else known
        operands.append(indices)
    spread = tuple(str(i) for i in reversed(range(widest)))
    if arrow:
        before, dots, after = right.partition("...")
        kept: tuple[str, ...] = (*before, *(spread if dots else ()), *after)
    else:
        letters = left.replace("...", "").replace(",", "")
        kept = (*spread, *sorted(letter for letter in set(letters) if letters.count(letter) == 1))
    missing = [index for index in kept if index not in sizes]
    if missing:
        raise ValueError(f"no operand has the index '{missing[0]}'")
    return Terms(tuple(operands), kept, tuple(index for index in sizes if index not in kept), sizes)


def _terms(view: GraphView, node: Node) -> Terms:
    return parse(str(node.attr("equation", "")), [view.shape(need(value)) for value in node.inputs])


def _check(view: GraphView, node: Node) -> str | None:
    reason = all_concrete(view, node)
    for value in node.inputs:
        reason = reason or dtype_in(view, value, NUMBERS)
    if reason is None:
        try:
            terms = _terms(view, node)
        except ValueError as error:
            return str(error)
        found = tuple(terms.sizes[index] for index in terms.kept)
        if found != tuple(view.shape(need(node.output(0)))):
            return f"the equation gives {list(found)}, which is not the shape the model says"
    return reason


@lowers("Einsum", check=_check)
def lower_einsum(program: Program, node: Node) -> None:
    terms, target = _terms(program.facts.view, node), need(node.output(0))
    every = (*terms.kept, *terms.summed)
    table = [terms.sizes[index] for index in every]
    for value, indices in zip(node.inputs, terms.operands, strict=True):
        shape = program.facts.shape(need(value))
        steps = dict.fromkeys(every, 0)
        for index, size, step in zip(indices, shape, strides_of(shape), strict=True):
            steps[index] += step if size > 1 else 0  # an index that appears twice walks the diagonal
        table += [steps[index] for index in every]
    program.steps.emit(
        numba_source(
            "mace_cpu.linear_algebra.kernels_einsum",
            "einsum",
            dtype=program.facts.dtype(target).label,
            operands=str(len(node.inputs)),
        ),
        {
            "target": program.values.write(target),
            "operands": [program.values.read(need(value)) for value in node.inputs],
            "table": program.table(table or [0]),
            "kept": len(terms.kept),
            "summed": len(terms.summed),
        },
        extent=program.facts.size(target),
        work=program.facts.size(target) * math.prod(terms.sizes[index] for index in terms.summed),
    )
