"""Symbolic sizes: what is compiled once serves every size that the conditions admit, and so does its stored form."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mace_core.graph import Graph, GraphView, Node, Value
from mace_core.graph.signature import Resolution
from mace_core.operators import resolve
from mace_core.operators.stored_resolution import describe_resolution, read_resolution
from mace_core.provider import Backend, CompiledSubgraph, ShapeSupport
from mace_core.symbolic import SizeProgramBuilder, Trace, new_symbol, polynomial_of
from mace_core.symbolic.stored import SizeReader, SizeWriter, dump_trace, load_trace
from mace_core.tensor import DType, Tensor, TensorType
from mace_core.testing.cases import OPSET
from mace_core.testing.kit.base import Array, KitBase
from mace_core.testing.runner import bind, run_once, view_of

ROWS = 5
"""At which the graphs are compiled."""

NEAR = 1e-2
"""Devices of half precision, too, come so near to what they compute for numbers."""

OTHER_ROWS = (6, 2, 9, 33, 130)

CHAINS = (("MatMul", "Relu", "MatMul"), ("Gemm", "Sigmoid", "Gemm"), ("Relu", "Sigmoid"), ("Softmax",), ("MatMul",))
"""Nodes one after the other; products with a square constant each."""


class SymbolicChecks(KitBase):
    """Backends that take sizes which are not decided compute what they compute for numbers."""

    def test_symbolic_sizes_serve_what_they_admit_stored_or_not(self, backend: Backend) -> None:
        if backend.shape_support is not ShapeSupport.SYMBOLIC:
            pytest.skip("the backend takes no sizes that are not decided")
        tried = 0
        for chain in CHAINS:
            graph = _chain(chain)
            view = _symbolic_view(graph)
            if {node for claim in backend.capability(view).claims for node in claim.nodes} != set(view.nodes):
                continue
            tried += 1
            (compiled,) = backend.compile([view])
            stored = _restored(backend, graph, view, compiled)
            for rows in (ROWS, *OTHER_ROWS, ROWS):
                feeds = {"x": np.random.default_rng(rows).uniform(-1, 1, (rows, 5)).astype(np.float32)}
                workspace = _admitted(view, compiled, rows)
                if workspace is None:
                    assert rows != ROWS, "the conditions do not admit the sizes that they were made for"
                    continue
                found = _run(backend, graph, compiled, feeds, workspace)
                numeric = view_of(graph, feeds)
                (fixed,) = backend.compile([numeric])
                for name, array in run_once(backend, numeric, fixed, feeds).items():
                    np.testing.assert_allclose(found[name], array, rtol=NEAR, atol=NEAR, err_msg=f"{chain} of {rows}")
                fixed.close()
                if stored is not None:
                    for name, array in _run(backend, graph, stored, feeds, workspace).items():
                        np.testing.assert_array_equal(array, found[name], err_msg=f"{chain} of {rows}, restored")
            for made in (compiled, stored):
                if made is not None:
                    made.close()
        if not tried:
            pytest.skip("the backend claims none of the graphs with symbolic sizes")


def _chain(op_types: tuple[str, ...]) -> Graph:
    graph = Graph(" then ".join(op_types))
    graph.opset_imports = {"": OPSET}
    value = Value("x", TensorType(DType.FLOAT32, ("n", 5)))
    graph.inputs = [value]
    for number, op_type in enumerate(op_types):
        inputs = [value]
        if op_type in ("MatMul", "Gemm"):
            weights = np.random.default_rng(number + 11).uniform(-1, 1, (5, 5)).astype(np.float32)
            inputs.append(Value(f"w{number}", None, Tensor.from_numpy(weights)))
            graph.initializers[inputs[1].name] = inputs[1]
        value = Value(f"v{number}")
        graph.nodes.append(Node(op_type, inputs, [value], name=f"{op_type.lower()} {number}"))
    graph.outputs = [value]
    return graph


def _symbolic_view(graph: Graph) -> GraphView:
    trace = Trace()
    rows = new_symbol(trace, "n", ROWS)
    return _view(graph, resolve(graph, {graph.inputs[0]: TensorType(DType.FLOAT32, (rows, 5))}), trace)


def _view(graph: Graph, resolution: Resolution, trace: Trace) -> GraphView:
    types, known = resolution.types, resolution.known
    return GraphView(graph, graph.nodes, graph.inputs, graph.outputs, types, known, name=graph.name, trace=trace)


def _restored(backend: Backend, graph: Graph, view: GraphView, compiled: CompiledSubgraph) -> CompiledSubgraph | None:
    """What comes out of the stored form, under a trace that was stored too; None where there is none."""
    blob = backend.serialize([compiled])
    if blob is None:
        return None
    trace = view.trace
    assert trace is not None
    values = {value for node in view.nodes for value in (*node.inputs, *node.outputs) if value is not None}
    types = {value: type for value in values if (type := view.type(value)) is not None}
    writer = SizeWriter(trace)
    document = json.dumps([describe_resolution(graph, Resolution(types), writer), writer.expressions])
    resolution, expressions = json.loads(document)
    again = load_trace(json.loads(json.dumps(dump_trace(trace, trace.largest_symbol()))))
    found = read_resolution(graph, resolution, SizeReader(again, expressions))
    (restored,) = backend.deserialize(blob, [_view(graph, found, again)])
    return restored


def _admitted(view: GraphView, compiled: CompiledSubgraph, rows: int) -> int | None:
    """The bytes of the workspace for so many rows; None where a condition says that the subgraph does not serve."""
    trace = view.trace
    assert trace is not None
    builder = SizeProgramBuilder(trace)
    checks = [(builder.register(guard.expression), guard) for guard in trace.conditions()]
    workspace = builder.register(polynomial_of(compiled.workspace_bytes))
    registers = builder.finish().run([rows])
    for register, guard in checks:
        value = registers[register]
        if (value == 0 if guard.relation == "==" else value < 0) is not guard.outcome:
            return None
    return registers[workspace]


def _run(
    backend: Backend, graph: Graph, compiled: CompiledSubgraph, feeds: Mapping[str, Array], workspace: int
) -> dict[str, Array]:
    numeric = view_of(graph, feeds)
    sized: Any = SimpleNamespace(workspace_bytes=workspace)
    bound = bind(backend, numeric, sized, feeds)
    bound.bindings.sizes = (feeds["x"].shape[0],)
    execution = compiled.new_execution()
    try:
        execution.run(bound.bindings)
        pairs = zip(numeric.outputs, bound.outputs(), strict=True)
        return {value.name: array for value, array in pairs if array is not None}
    finally:
        execution.close()
        bound.free()
