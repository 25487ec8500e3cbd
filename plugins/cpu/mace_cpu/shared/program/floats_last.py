"""Floats whose channels lie last: who wants them so, and how they are had.

Products of bytes give them in this order, and what stores floats in bytes reads them in it.  What stands between the
two keeps the order, where it can.
"""

from __future__ import annotations

import math

from mace_core.graph import Node, Value
from mace_core.tensor import DType
from mace_cpu.shared.nodes import need, normal_axis
from mace_cpu.shared.parts.buffers import Buf
from mace_cpu.shared.parts.views import Strided
from mace_cpu.shared.program.program import Program

ROWS = "mace.rows"
"""The domain of operators of this provider that store rows of floats in bytes."""

_KEEPS_THE_ORDER = ("AveragePool", "Concat", "MaxPool", "Pad")


def wants_channels_last(program: Program, value: Value) -> bool:
    """Whether all who read ``value`` read it so, or hand it on to such."""
    seen, waiting = {value}, [value]
    while waiting:
        each = waiting.pop()
        users = program.facts.view.users(each)
        if not users or program.facts.view.is_output(each) or program.facts.dtype(each) is not DType.FLOAT32:
            return False
        for user in users:
            if reads_channels_last(program, user):
                continue
            result = user.output(0)
            if result is None or not _keeps_the_order(program, user, result):
                return False
            if result not in seen:
                seen.add(result)
                waiting.append(result)
    return True


def _keeps_the_order(program: Program, node: Node, result: Value) -> bool:
    if node.domain or node.op_type not in _KEEPS_THE_ORDER:
        return False
    return node.op_type != "Concat" or normal_axis(int(node.attr("axis", 1)), _rank(program, result)) == 1


def reads_channels_last(program: Program, node: Node) -> bool:
    """Whether a node stores rows in bytes that lie together where channels are last."""
    if node.domain != ROWS or node.op_type != "QuantizeRows":
        return False
    rank = _rank(program, need(node.input(0)))
    axes = {normal_axis(int(axis), rank) for axis in node.attr("axes")}
    is_moved = any(user.op_type == "Transpose" for user in program.facts.view.users(need(node.output(0))))
    return rank > 2 and (axes == {1} or (1 in axes and not is_moved))


def _rank(program: Program, value: Value) -> int:
    return len(program.facts.shape(value))


def show_floats_last(program: Program, node: Node, value: Value, buf: Buf) -> None:
    """``value``, the result of ``node``, lies in ``buf`` with its channels last."""
    shape = program.facts.shape(value)
    pixel = [shape[1] * math.prod(shape[axis + 1 :]) for axis in range(2, len(shape))]
    program.values.show(value, Strided(buf, 0, tuple(shape), (math.prod(shape[1:]), 1, *pixel)), node)
