"""Outputs in place: what is taken of `GraphView.in_place` is read and written where it lies, and nothing else is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from mace_core.graph import Attribute, AttributeKind, Graph, GraphView, InPlace, Node, Value
from mace_core.provider import Backend, Bindings, BoundTensor, Buffer, CompiledSubgraph
from mace_core.tensor import DType, MemoryKind, TensorType
from mace_core.testing.cases import OPSET
from mace_core.testing.kit.base import Array, KitBase
from mace_core.testing.runner import view_of

PAST, NEW, CAPACITY = 5, 2, 11
WORKSPACE_ALIGNMENT = 64


class InPlaceChecks(KitBase):
    """Backends on host memory that take offers compute them as they would anywhere else."""

    def test_entries_are_appended_where_there_is_room(self, backend: Backend) -> None:
        random = np.random.default_rng(0)
        tried = 0
        for axis in (0, 1, 2):
            shape = [2, 3, 4]
            past, new = ([*shape[:axis], size, *shape[axis + 1 :]] for size in (PAST, NEW))
            feeds = {name: _numbers(random, size) for name, size in (("past", past), ("new", new))}
            graph = _graph("Concat", ("past", "new"), feeds, axis)
            compiled = _taken(backend, graph, feeds, axis, CAPACITY)
            if compiled is None:
                continue
            tried += 1
            view, made = compiled
            room = np.full([*shape[:axis], CAPACITY, *shape[axis + 1 :]], -7.0, np.float32)
            _along(room, axis, 0, PAST)[...] = feeds["past"]
            before = room.copy()
            result = _run(view, made, {"past": room, "new": feeds["new"]}, undone=False)
            made.close()
            expected = np.concatenate([feeds["past"], feeds["new"]], axis)
            np.testing.assert_array_equal(_along(room, axis, 0, PAST + NEW), expected, err_msg=f"axis {axis}")
            rest = _along(room, axis, PAST + NEW, CAPACITY)
            np.testing.assert_array_equal(rest, _along(before, axis, PAST + NEW, CAPACITY), err_msg="what lies behind")
            np.testing.assert_array_equal(result, np.maximum(expected, 0), err_msg=f"what reads it, axis {axis}")
        if not tried:
            pytest.skip("the backend takes no offer to append in place")

    def test_what_is_written_over_can_be_put_back(self, backend: Backend) -> None:
        random = np.random.default_rng(1)
        cache, at = _numbers(random, [7, 4]), np.array([[5], [2]])
        feeds = {"past": cache, "at": at, "new": _numbers(random, [2, 4])}
        graph = _graph("ScatterND", ("past", "at", "new"), feeds, None)
        compiled = _taken(backend, graph, feeds, None, 0)
        if compiled is None:
            pytest.skip("the backend takes no offer to write over an input")
        view, made = compiled
        expected = cache.copy()
        expected[[5, 2]] = feeds["new"]
        for undone in (False, True):
            memory = cache.copy()
            result = _run(view, made, {**feeds, "past": memory}, undone=undone)
            np.testing.assert_array_equal(result, np.maximum(expected, 0), err_msg="what reads it")
            wanted = cache if undone else expected
            np.testing.assert_array_equal(memory, wanted, err_msg="after undo" if undone else "the input itself")
        made.close()


def _numbers(random: np.random.Generator, shape: Sequence[int]) -> Array:
    return random.uniform(-1, 1, shape).astype(np.float32)


def _along(array: Array, axis: int, start: int, stop: int) -> Array:
    return array[tuple(slice(start, stop) if i == axis else slice(None) for i in range(array.ndim))]


def _graph(op_type: str, names: Sequence[str], feeds: Mapping[str, Array], axis: int | None) -> Graph:
    """A node whose output is its first input, changed, and a Relu that reads it."""
    graph = Graph(f"{op_type} in place")
    graph.opset_imports = {"": OPSET}
    graph.inputs = [Value(name, TensorType(DType.from_numpy(feeds[name].dtype), feeds[name].shape)) for name in names]
    present, result = Value("present"), Value("result")
    attributes = {} if axis is None else {"axis": Attribute(AttributeKind.INT, axis)}
    graph.nodes = [
        Node(op_type, graph.inputs, [present], name="changing", attributes=attributes),
        Node("Relu", [present], [result], name="reading"),
    ]
    graph.outputs = [present, result]
    return graph


def _taken(
    backend: Backend, graph: Graph, feeds: Mapping[str, Array], axis: int | None, capacity: int
) -> tuple[GraphView, CompiledSubgraph] | None:
    """The graph compiled with its offer; None where the backend does not take it."""
    if backend.allocators()[0].memory is not MemoryKind.HOST:
        return None  # only those on host memory are made offers
    view = view_of(graph, feeds)
    if {node for claim in backend.capability(view).claims for node in claim.nodes} != set(view.nodes):
        return None
    view.in_place = (InPlace(graph.inputs[0], graph.outputs[0], axis, capacity),)
    (compiled,) = backend.compile([view])
    if 0 in compiled.in_place:
        return view, compiled
    compiled.close()
    return None


def _run(view: GraphView, compiled: CompiledSubgraph, memories: Mapping[str, Array], *, undone: bool) -> Array:
    """Run on these memories, the first of which is the output's, too; gives what reads that."""
    result = np.full(view.shape(view.outputs[1]), np.nan, np.float32)
    work = np.zeros(compiled.workspace_bytes + WORKSPACE_ALIGNMENT, np.uint8)
    start = -work.ctypes.data % WORKSPACE_ALIGNMENT
    bound = [_bound(view, value, memories[value.name]) for value in view.inputs]
    changed = next(memories[value.name] for value in view.inputs if value.name == "past")
    workspace = BoundTensor(DType.UINT8, (compiled.workspace_bytes,), _buffer(work), start)
    outputs = [_bound(view, view.outputs[0], changed), _bound(view, view.outputs[1], result)]
    bindings = Bindings(bound, outputs, workspace if compiled.workspace_bytes else None)
    execution = compiled.new_execution()
    try:
        execution.run(bindings)
        if undone:
            execution.undo(bindings)
    finally:
        execution.close()
    return result


def _bound(view: GraphView, value: Value, array: Array) -> BoundTensor:
    return BoundTensor(DType.from_numpy(array.dtype), view.shape(value), _buffer(array))


def _buffer(array: Array) -> Buffer:
    return Buffer(MemoryKind.HOST, array.nbytes, int(array.ctypes.data), array)
