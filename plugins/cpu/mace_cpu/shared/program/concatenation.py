"""Parts of a concatenation that can be computed where they belong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mace_core.graph import Node, Value
from mace_core.tensor import DType
from mace_cpu.shared.nodes import need, normal_axis
from mace_cpu.shared.parts.buffers import Layout
from mace_cpu.shared.parts.facts import Facts


def concatenations(facts: Facts, value: Value, layout: Layout) -> Iterator[tuple[Value, int]]:
    """The results of Concat that ``value`` can be computed in, and at which byte it begins there.

    Only where its part is one piece of memory: only the first axis with more than one element is laid out part after
    part, and in the BLOCKED layout parts have to begin with a block.
    """
    for node in facts.view.users(value):
        if node.op_type == "Concat" and not node.domain:
            start = _start_of(facts, node, value, layout)
            if start is not None:
                yield need(node.output(0)), start


def channel_starts(facts: Facts, sources: Sequence[Value]) -> list[int]:
    """The first channel of each part."""
    return [sum(facts.shape(value)[1] for value in sources[:i]) for i in range(len(sources))]


def _start_of(facts: Facts, node: Node, value: Value, layout: Layout) -> int | None:
    """At which byte of the result the first part that is ``value`` begins; None where that is not one piece."""
    target = need(node.output(0))
    shape = facts.shape(target)
    axis = normal_axis(int(node.attr("axis", 1)), len(shape))
    dtype = facts.dtype(value)
    if any(dim != 1 for dim in shape[:axis]) or dtype is DType.STRING or facts.size(value) == 0:
        return None
    sources = [need(source) for source in node.inputs]
    before = sources[: sources.index(value)]
    if layout is Layout.PLAIN:
        return sum(facts.nbytes(source) for source in before)
    starts = channel_starts(facts, [source for source in sources if facts.size(source)])
    if axis != 1 or dtype is not DType.FLOAT32 or any(start % facts.block for start in starts):
        return None
    return sum(facts.blocked_nbytes(source) for source in before)
