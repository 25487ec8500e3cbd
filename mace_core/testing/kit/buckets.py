"""Sizes that change in one session of a backend that declares buckets: results are those of the sizes themselves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from mace_core.graph import Graph
from mace_core.operators.context import ShapeMismatchError, UnresolvedShapeError
from mace_core.operators.independence import AxesContext, Lane
from mace_core.operators.registry import find_independent_axes
from mace_core.provider import Backend, Buckets, Device
from mace_core.tensor import TensorType
from mace_core.testing.cases import Case, operator_cases
from mace_core.testing.expected import Array, expected
from mace_core.testing.kit.base import KitBase
from mace_core.testing.kit.comparing import assert_agrees
from mace_core.testing.runner import view_of

DIMENSION = "n"
MOST_SIZES = 3
LARGEST_SIZE = 40


class BucketChecks(KitBase):
    """What is compiled for a bucket is right for each size in it."""

    def test_padded_sizes_give_what_exact_ones_give(self, backend: Backend, device: Device) -> None:
        buckets = backend.buckets
        if buckets is None or not backend.compiles_per_shape:
            pytest.skip("the backend declares no buckets")
        sizes = sizes_of(buckets)
        padded = 0
        for case in operator_cases():
            lane = _lane(case) if self.declaration.claims(case) else None
            if lane is None:
                continue
            with self.session(device, free_graph(case, lane), strict=False) as session:
                for size in sizes:
                    resized = replace(case, inputs=_resized(case, lane, size))
                    found = session.run(resized.feeds())
                    for name, array in expected(resized).items():
                        told = f"{case.name} with {size} positions: {name}"
                        assert_agrees(found[name], array, self.declaration.tolerance, told)
                    notes = [note for part in session.explain().partitions for note in part.padding]
                    padded += any(note.startswith("padded") and "->" in note for note in notes)
        assert padded, "the backend declares buckets, and takes none of the kit's cases in a size that is padded"


def sizes_of(buckets: Buckets) -> list[int]:
    """Some sizes that are padded to the smaller buckets, and some that are not."""
    found = [size for size in range(2, LARGEST_SIZE) if (buckets.bucket(size) or size) != size]
    return [*found[:: -(-len(found) // MOST_SIZES) or 1], *buckets.sizes[:1]]


def free_graph(case: Case, lane: Lane) -> Graph:
    """The graph of a case with a free dimension along a lane."""
    graph = case.graph()
    (node,) = graph.nodes
    for index, axis in lane.inputs:
        value = node.inputs[index]
        assert value is not None and isinstance(value.type, TensorType) and value.type.shape is not None
        shape = list(value.type.shape)
        shape[axis] = DIMENSION
        value.type = TensorType(value.type.dtype, tuple(shape))
    return graph


def _lane(case: Case) -> Lane | None:
    """The first independent axis of the inputs that are fed, if there is one."""
    return next(_lanes(case), None)


def _lanes(case: Case) -> Iterator[Lane]:
    graph = case.graph()
    view = view_of(graph, case.feeds())
    (node,) = graph.nodes
    rule = find_independent_axes("", case.op_type)
    if rule is None or any(view.constant(value) is not None for value in view.outputs):
        return
    values = [value for value in (*node.inputs, *node.outputs) if value is not None]
    types = {value: found for value in values if (found := view.type(value)) is not None}
    contents = {value: content.numpy() for value in values if (content := view.constant(value)) is not None}
    try:
        lanes = list(rule(AxesContext(node, case.opset, types, contents)))
    except (UnresolvedShapeError, ShapeMismatchError):
        return
    for lane in lanes:
        fed = all(index not in case.constants and _size(case, index, axis) for index, axis in lane.inputs)
        if fed and not lane.stated:
            yield lane


def _size(case: Case, index: int, axis: int) -> int:
    array = case.inputs[index]
    return 0 if array is None else int(array.shape[axis])


def _resized(case: Case, lane: Lane, size: int) -> list[Array | None]:
    """The inputs with so many of their own positions, over and over, along a lane."""
    inputs = list(case.inputs)
    for index, axis in lane.inputs:
        array = inputs[index]
        assert array is not None
        inputs[index] = np.take(array, np.arange(size) % array.shape[axis], axis)
    return inputs
