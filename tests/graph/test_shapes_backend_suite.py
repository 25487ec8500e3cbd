"""The resolver against ONNX's own backend suite: what it says before the run is what the outputs turn out to be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from mace_core.frontend.load import load_model
from mace_core.graph import Graph, Value
from mace_core.graph.signature import Resolution
from mace_core.operators import resolve
from mace_core.tensor import DType, Tensor, TensorType, ValueType

# What only running the node tells, even when every input is known.
DATA_DEPENDENT = {"ImageDecoder", "NonMaxSuppression", "StringNormalizer", "StringSplit", "Unique"}
# Cases whose loop returns values of another shape at every iteration, or that use the batched Scan of opset 8.
OPEN_LOOPS = {"test_loop11", "test_scan_sum"}

Recorder = Callable[[str, object], None]


@dataclass(frozen=True)
class Case:
    """One test of the suite with one set of data."""

    name: str
    graph: Graph
    inputs: Mapping[Value, ValueType]
    contents: Mapping[Value, Tensor]
    expected: tuple[tuple[Value, np.ndarray], ...]


@cache
def cases() -> tuple[Case, ...]:
    return tuple(_cases())


def _cases() -> Iterator[Case]:
    from onnx.backend.test.case.node import collect_testcases

    with np.errstate(all="ignore"):
        collected = collect_testcases(None)
    for test in collected:
        graph = load_model(test.model)
        for inputs, outputs in test.data_sets:
            types: dict[Value, ValueType] = {}
            contents: dict[Value, Tensor] = {}
            for value, given in zip(graph.inputs, map(_array, inputs), strict=False):
                if not isinstance(value.type, TensorType) or not isinstance(given, np.ndarray):
                    continue
                types[value] = TensorType(value.type.dtype, given.shape)
                if given.size <= 1024 and DType.from_numpy(given.dtype) is value.type.dtype:
                    contents[value] = Tensor.from_numpy(given)
            expected = [
                (value, array)
                for value, array in zip(graph.outputs, map(_array, outputs), strict=False)
                if isinstance(value.type, TensorType) and isinstance(array, np.ndarray)
            ]
            yield Case(test.name, graph, types, contents, tuple(expected))


def _array(given: Any) -> Any:
    if isinstance(given, onnx.TensorProto):
        return numpy_helper.to_array(given)
    return np.asarray(given) if isinstance(given, np.generic) else given


def stored_cases(kind: str) -> Iterator[Case]:
    """Models of older opsets with data on disk."""
    from onnx.backend.test.loader import load_model_tests

    for test in load_model_tests(kind=kind):
        folder = Path(test.model_dir)
        graph = load_model(folder / "model.onnx")
        data = folder / "test_data_set_0"
        if not all(isinstance(value.type, TensorType) for value in (*graph.inputs, *graph.outputs)):
            continue
        inputs = [_stored(data / f"input_{i}.pb") for i in range(len(graph.inputs))]
        outputs = [_stored(data / f"output_{i}.pb") for i in range(len(graph.outputs))]
        types = {v: TensorType(v.type.dtype, a.shape) for v, a in zip(graph.inputs, inputs, strict=True)}  # type: ignore[union-attr]
        yield Case(test.name, graph, types, {}, tuple(zip(graph.outputs, outputs, strict=True)))


def _stored(path: Path) -> np.ndarray:
    return numpy_helper.to_array(onnx.load_tensor(path))


def check(case: Case, found: Resolution) -> Counter[str]:
    """Compare what was resolved with the outputs of the suite; returns how many of each kind there were."""
    counts: Counter[str] = Counter()
    for value, array in case.expected:
        resolved = found.types.get(value)
        if not isinstance(resolved, TensorType) or not resolved.is_concrete:
            assert found.blocked, f"{case.name}: '{value.name}' is unknown and nothing says why"
            counts["unknown"] += 1
            continue
        assert resolved == TensorType(value.type.dtype, array.shape), case.name  # type: ignore[union-attr]
        counts["shape"] += 1
        if value in found.known:
            content = found.known[value].numpy()
            assert TensorType(DType.from_numpy(content.dtype), content.shape) == resolved, case.name
            np.testing.assert_allclose(
                content.astype(np.float64), array.astype(np.float64), rtol=1e-6, err_msg=case.name
            )
            counts["content"] += 1
    return counts


def test_shapes_from_types_alone_are_those_of_the_outputs(record_property: Recorder) -> None:
    counts: Counter[str] = Counter()
    for case in cases():
        counts += check(case, resolve(case.graph, case.inputs))
    record_property("counts", dict(counts))
    assert counts["shape"] > 1850
    assert counts["unknown"] < 400


def test_shapes_and_contents_are_right_where_small_inputs_are_known(record_property: Recorder) -> None:
    counts: Counter[str] = Counter()
    for case in cases():
        counts += check(case, resolve(case.graph, case.inputs, case.contents))
    record_property("counts", dict(counts))
    assert counts["shape"] > 2150
    assert counts["content"] > 490  # what may be rounded in more than one way is left to the run
    assert counts["unknown"] < 85


@pytest.mark.parametrize(("kind", "least"), [("pytorch-converted", 80), ("pytorch-operator", 30)])
def test_models_of_older_opsets_have_the_shapes_of_their_outputs(kind: str, least: int) -> None:
    counts: Counter[str] = Counter()
    for case in stored_cases(kind):
        counts += check(case, resolve(case.graph, case.inputs))
    assert counts["shape"] >= least, counts
    assert counts["unknown"] == 0


def test_only_data_dependent_operators_stay_unknown_when_the_inputs_are_known() -> None:
    for case in cases():
        found = resolve(case.graph, case.inputs, case.contents)
        unknown = {node.op_type for node in found.blocked}
        waiting = {node.op_type for node, inputs in found.blocked.items() if inputs}
        if any(graph_input not in found.known for graph_input in case.graph.inputs) or case.name in OPEN_LOOPS:
            continue  # a large or non-tensor input: content may still be missing
        assert unknown <= DATA_DEPENDENT | {"Loop"}, case.name
        assert not waiting & DATA_DEPENDENT, case.name


@pytest.mark.parametrize("op_type", sorted(DATA_DEPENDENT))
def test_a_data_dependent_operator_is_blocked_without_a_remedy(op_type: str) -> None:
    hits = 0
    for case in cases():
        if any(node.op_type == op_type for node in case.graph.nodes):
            found = resolve(case.graph, case.inputs)
            hits += sum(node.op_type == op_type and not inputs for node, inputs in found.blocked.items())
    assert hits
