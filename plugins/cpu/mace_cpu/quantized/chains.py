"""Chains of operators of floats between a DequantizeLinear and a QuantizeLinear, in one step.

What is a function of one number alone is a table and does not come here.  This is for operands that vary from channel
to channel (PRelu, BatchNormalization, scales and shifts), and for those that are tensors.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from mace_core.graph import Node, Value
from mace_core.native.kernel_words import WordLayout
from mace_core.symbolic import is_same, is_symbolic
from mace_cpu.quantized.chain_variant import BINARY, HEAD, SINGLE, Chain
from mace_cpu.quantized.convolution.following import follow
from mace_cpu.quantized.float_ops import Dequantized, end_of, floats_at, show_channels_last
from mace_cpu.shared.codegen.generated import generated
from mace_cpu.shared.epilogue.operations import FloatArray
from mace_cpu.shared.epilogue.requantize import Requantization
from mace_cpu.shared.nodes import need
from mace_cpu.shared.parts.buffers import Buf, Layout
from mace_cpu.shared.parts.steps import Word
from mace_cpu.shared.program.match_epilogue import match_diamond, match_node
from mace_cpu.shared.program.program import Program

MOST_NODES = 12
UNIT = 8192
"""Numbers of one unit of work, about."""

MOST_VECTORS = 4
"""Of floats that belong to a vector of bytes."""


def begins_chain(program: Program, node: Node, real: Value) -> bool:
    """Whether a QuantizeLinear follows ``node``, which reads ``real``, with nothing but elementwise nodes between."""
    if not program.facts.shape(real) or is_same(program.facts.size(real), 0):
        return False
    nodes = list(_chain(program, node, real))
    return len(nodes) > 1 and nodes[-1].op_type == "QuantizeLinear"


def emit_chain(program: Program, node: Node) -> bool:
    """Emit ``node`` and all that is done behind it; False, and nothing emitted, where it is no such chain."""
    found = _beginning(program, node)
    if found is None:
        return False
    real, left = found
    facts, numbers = program.facts, left.numbers
    layout = _layout(program, list(_chain(program, node, real)), numbers, real)
    channel_axis = 1 if layout is Layout.CHANNELS_LAST else -1
    first = match_node(program, node, real, channel_axis)
    if first is None or any(floats_at(program, tensor, layout, emits=False) is None for tensor in first.tensors):
        return False
    end = end_of(program, node, Requantization("float32"), layout, channel_axis, first)
    assert end.operands is not None
    shape = facts.shape(real)
    columns = shape[1] if layout is Layout.CHANNELS_LAST else shape[-1]
    rows = facts.size(real) // columns
    lanes = program.settings.target.vector_bits // 32
    vectors = MOST_VECTORS if is_symbolic(columns) else max(min(-(-columns // lanes), MOST_VECTORS), 1)
    width = vectors * lanes
    spec, value, target, following = end.spec, end.value, Buf.scratch(0), []
    if spec.is_quantized:
        followers = follow(program, value, end.zero, layout)
        spec, value, following = replace(spec, following=tuple(followers.operations)), followers.result, followers.words
        target = program.values.write(value, layout)
    elif layout is Layout.CHANNELS_LAST:
        target = Buf.scratch(4 * facts.size(value))
    else:
        target = program.values.write(value)

    def place(array: FloatArray) -> Word:
        wide = np.zeros(-(-array.size // width) * width, np.float32)
        wide[: array.size] = array.reshape(-1)
        return program.constants.put(wide)

    variant = Chain(facts.dtype(numbers).label, vectors, spec)
    words = WordLayout.parse(f"{HEAD} requantization[{spec.words}]")
    unit_rows = 1 if is_symbolic(columns) else max(UNIT // columns, 1)
    program.steps.emit(
        generated("mace_cpu.quantized.generate_chain", f"bytes_chain_{variant.tag}", variant, words=lambda: words),
        {
            "source": program.values.read(numbers, layout),
            "target": target,
            "rows": rows,
            "columns": columns,
            "unit_rows": unit_rows,
            "zero": left.zero,
            "scale": left.scale,
            "requantization": [end.zero, end.low, end.high, *end.operands.words(place), *following],
        },
        extent=-(-rows // unit_rows),
        work=facts.size(real) * (2 + len(first.ops)) / 4,
    )
    if layout is Layout.CHANNELS_LAST:
        show_channels_last(program, node, value, target)
    return True


def _beginning(program: Program, node: Node) -> tuple[Value, Dequantized] | None:
    """The input of ``node`` that was left dequantized, if a chain begins there."""
    for value in node.inputs[:2]:
        left = None if value is None else program.values.postponed(value)
        if isinstance(left, Dequantized) and value is not None and begins_chain(program, node, value):
            return value, left
    return None


def _chain(program: Program, node: Node, real: Value) -> Iterator[Node]:
    """``node`` and those that alone read what the one before them makes, as far as they are elementwise."""
    value, user = real, node
    for _ in range(MOST_NODES):
        if user.domain:
            return
        yield user
        result = need(user.output(0))
        is_taken = user.op_type in BINARY or (user.op_type in SINGLE and user.input(0) is value)
        if not is_taken or not program.facts.have_one_shape(result, real):
            return
        diamond = match_diamond(program, result, wide=True)
        if diamond is not None:
            _, nodes, result = diamond
            yield from nodes
        following = program.fusion.sole_user(result)
        if following is None:
            return
        value, user = result, following


def _layout(program: Program, nodes: list[Node], numbers: Value, real: Value) -> Layout:
    """In which the operands per channel of a chain lie next to each other."""
    rank = len(program.facts.shape(real))
    if rank < 3:
        return Layout.PLAIN
    for node in nodes[:-1]:
        if node.op_type == "BatchNormalization":
            return Layout.CHANNELS_LAST
        for value in node.inputs:
            known = None if value is None else program.facts.constant_of(value)
            if known is None or known.size == 1:
                continue
            axes = [rank - known.ndim + axis for axis, size in enumerate(known.shape) if size != 1]
            return Layout.CHANNELS_LAST if axes == [1] else Layout.PLAIN
    is_last = program.values.prefers_channels_last(numbers)
    return Layout.CHANNELS_LAST if is_last else Layout.PLAIN
