"""Which outputs of a partition, or of a nested graph, may be computed in the memory of what they come from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from mace_core.graph import InPlace, Node, Value
from mace_core.graph.graph import captured_values
from mace_core.scheduler.growing import Growing, Growth
from mace_core.scheduler.planning.stages import Stage, node_reads
from mace_core.symbolic import is_same
from mace_core.tensor import TensorType


def with_growing(stage: Stage, growing: Growing | None) -> Stage:
    """``stage`` under which something may grow in place, there or in what comes after it."""
    if growing is None:
        return stage
    stage = stage._replace(growing=growing)
    if of_rest(stage) is None:
        return stage
    capacity = (growing.capacity,)
    return stage._replace(outputs=(*stage.outputs, *capacity), rest_feeds=(*stage.rest_feeds, *capacity))


def of_rest(stage: Stage) -> Growing | None:
    """What may grow in place in the stages behind ``stage``."""
    growing, rest = stage.growing, stage.rest
    if growing is None or rest is None:
        return None
    pairs = []
    for growth in growing.pairs:
        target = stage.graph.outputs[growth.output]
        if growth.axis is None:
            continue  # what a stage wrote is put back as long as none has come after it
        if growth.source in stage.rest_feeds and growth.source not in stage.graph.outputs and target in rest.outputs:
            pairs.append(Growth(growth.source, rest.outputs.index(target), growth.axis))
    return Growing(tuple(pairs), growing.capacity) if pairs else None


def offered(
    stage: Stage, inputs: Sequence[Value], outputs: Sequence[Value], readers: Mapping[Value, set[int]], own: set[int]
) -> Iterator[InPlace]:
    """What a partition may compute in place.

    Nobody else may read the input, which has gaps, nor the output.  Where the room does not suffice for the shapes of
    this plan, there is nothing to offer; with symbolic sizes that is one of its guards.

    Args:
        readers: which partitions read a value.
        own: the number of this one.
    """
    growing = stage.growing
    if growing is None:
        return
    capacity = _capacity(stage, growing)
    for growth in growing.pairs:
        source, target = growth.source, stage.graph.outputs[growth.output]
        if source not in inputs or target not in outputs or not _is_alone(stage, source, target):
            continue
        if growth.axis is None and stage.rest is not None:
            continue
        if readers.get(source) == own and readers.get(target, own) == own and _fits(stage, growth, capacity):
            yield InPlace(source, target, growth.axis, capacity)


def of_body(stage: Stage, node: Node) -> Growing | None:
    """What may grow in place in a branch of ``node``, an If of ``stage``, as long as nobody else looks at it."""
    growing = stage.growing
    if growing is None or node.op_type != "If" or node.domain:
        return None
    inside = set(captured_values(node))
    pairs = []
    for growth in growing.pairs:
        source, target = growth.source, stage.graph.outputs[growth.output]
        if source not in inside or target not in node.outputs or not _is_alone(stage, source, target):
            continue
        if growth.axis is None:
            continue  # the nodes behind the If may fail, when nobody can put back any more what a branch wrote
        others = (other for other in stage.nodes if other is not node)
        if any(value is source or value is target for other in others for value in node_reads(other)):
            continue
        pairs.append(Growth(source, node.outputs.index(target), growth.axis))
    return Growing(tuple(pairs), growing.capacity) if pairs else None


def _is_alone(stage: Stage, source: Value, target: Value) -> bool:
    """Whether the input is not handed over itself, and the output once, to the caller."""
    return source not in stage.outputs and stage.graph.outputs.count(target) == 1 and target not in stage.rest_feeds


def _capacity(stage: Stage, growing: Growing) -> int:
    type = stage.types[growing.capacity]
    assert isinstance(type, TensorType)
    return type.concrete_shape[0]


def _fits(stage: Stage, growth: Growth, capacity: int) -> bool:
    before, after = (stage.types.get(v) for v in (growth.source, stage.graph.outputs[growth.output]))
    if not isinstance(before, TensorType) or not isinstance(after, TensorType):
        return False
    if not before.is_concrete or not after.is_concrete or before.dtype is not after.dtype or before.dtype.is_packed:
        return False
    small, large = before.concrete_shape, after.concrete_shape
    if len(small) != len(large) or (growth.axis or 0) >= max(len(small), 1):
        return False
    if not all(is_same(a, b) for axis, (a, b) in enumerate(zip(small, large, strict=True)) if axis != growth.axis):
        return False
    return growth.axis is None or bool(large[growth.axis] <= capacity)
