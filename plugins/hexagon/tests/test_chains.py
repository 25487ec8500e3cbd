"""Weights that are too large for one context are spread over several, within one subgraph where need be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hexagon_support import WIDE, Array, open_backend, perceptron, quantized, small_network
from hypothesis import given, settings
from hypothesis import strategies as st
from mace_hexagon.backend import HexagonBackend
from mace_hexagon.chain import split
from mace_hexagon.description import QOp, QTensor
from mace_hexagon.execution import HexagonSubgraph
from mace_hexagon.qnn.types import DataType, TensorKind

from mace_core.errors import CancelledError, UnsupportedError
from mace_core.frontend.load import load_model
from mace_core.graph import GraphView
from mace_core.provider import Device
from mace_core.session import Session
from mace_core.testing.models import sample_image
from mace_core.testing.runner import run_once, view_of

SHAPE = (1, 3, 20, 18)


def float_tensor(name: str, kind: TensorKind = TensorKind.NATIVE, data: Array | None = None) -> QTensor:
    return QTensor(name, DataType.FLOAT_32, (4,) if data is None else data.shape, kind, data=data)


@st.composite
def graphs(draw: st.DrawFn) -> tuple[list[QOp], list[QTensor], list[QTensor], int]:
    """Operations that read any earlier values and constants of some bytes, and a limit."""
    inputs = [float_tensor(f"in{n}", TensorKind.APP_WRITE) for n in range(draw(st.integers(1, 2)))]
    values, ops, outputs = list(inputs), [], []
    shared = float_tensor("shared", TensorKind.STATIC, np.zeros(8, np.float32))
    for number in range(draw(st.integers(1, 12))):
        read = draw(st.lists(st.sampled_from(values), min_size=1, max_size=3))
        weights = float_tensor(f"w{number}", TensorKind.STATIC, np.zeros(draw(st.integers(1, 40)), np.float32))
        constants = draw(st.sampled_from([[], [weights], [weights, shared], [shared]]))
        is_output = draw(st.booleans())
        made = float_tensor(f"v{number}", TensorKind.APP_READ if is_output else TensorKind.NATIVE)
        ops.append(QOp("Thing", f"op{number}", [*read, *constants], [made]))
        values.append(made)
        if is_output:
            outputs.append(made)
    return ops, inputs, outputs, draw(st.sampled_from([1, 60, 100, 200, 100000]))


@settings(deadline=None)
@given(graphs())
def test_pieces_compute_what_the_whole_does(case: tuple[list[QOp], list[QTensor], list[QTensor], int]) -> None:
    """Every operation that an output needs, once and in order; what a piece reads was given or written before."""
    ops, inputs, outputs, limit = case
    chain = split(ops, inputs, outputs, limit, half_precision=False)
    needed = set(outputs)
    for op in reversed(ops):
        needed.update(op.inputs if needed.intersection(op.outputs) else ())
    live = [op.name for op in ops if needed.intersection(op.outputs)]
    assert [op.name for piece in chain.pieces for op in piece.ops] == live
    known = set(range(len(inputs)))
    names = [tensor.name for tensor in (*inputs, *outputs, *chain.crossing)]
    for piece in chain.pieces:
        constants = {t.name: t for op in piece.ops for t in op.inputs if t.data is not None}
        assert piece.nbytes == sum(t.data.nbytes for t in constants.values() if t.data is not None)
        if len(piece.ops) > 1:
            assert piece.nbytes <= limit
        assert set(piece.reads) <= known
        known |= set(piece.writes)
        assert [tensor.name for tensor in piece.inputs] == [names[number] for number in piece.reads]
        assert [tensor.name for tensor in piece.outputs] == [names[number] for number in piece.writes]
        given_here = {*piece.inputs, *(t for op in piece.ops for t in op.outputs)}
        assert all(t in given_here or t.data is not None for op in piece.ops for t in op.inputs)
        if len(chain.pieces) > 1:
            assert all(tensor.kind is TensorKind.APP_WRITE for tensor in piece.inputs)
            assert all(tensor.kind is TensorKind.APP_READ for tensor in piece.outputs)
    assert known == set(range(len(names)))


def test_half_precision_halves_what_floats_take() -> None:
    weights = float_tensor("w", TensorKind.STATIC, np.zeros(10, np.float32))
    x, y = float_tensor("x", TensorKind.APP_WRITE), float_tensor("y", TensorKind.APP_READ)
    op = QOp("Thing", "op", [x, weights], [y])
    assert split([op], [x], [y], 1000, half_precision=True).pieces[0].nbytes == 20
    assert split([op], [x], [y], 1000, half_precision=False).pieces[0].nbytes == 40


@pytest.fixture(scope="module")
def wide_view() -> GraphView:
    return view_of(load_model(perceptron()), {"x": sample_image(WIDE)})  # type: ignore[arg-type]


def compute(backend: HexagonBackend, view: GraphView, compiled: object, shape: tuple[int, ...] = WIDE) -> Array:
    return run_once(backend, view, compiled, {"x": sample_image(shape)})["y"]  # type: ignore[arg-type]


def test_a_subgraph_beyond_the_limit_runs_in_several_contexts(device: Device, wide_view: GraphView) -> None:
    usual, small = open_backend(device), open_backend(device, context_mb=1)
    (whole,) = usual.compile([wide_view])
    (chained,) = small.compile([wide_view])
    assert isinstance(chained, HexagonSubgraph)
    assert usual.live_contexts == 1
    assert small.live_contexts == len(chained.stages) > 3
    expected = compute(usual, wide_view, whole)
    np.testing.assert_allclose(
        compute(small, wide_view, chained), expected, rtol=0, atol=2e-3 * float(np.ptp(expected))
    )
    blob = small.serialize([chained]) or b""
    found = compute(small, wide_view, chained)
    chained.close()
    assert small.live_contexts == 0
    (restored,) = small.deserialize(blob, [wide_view])
    np.testing.assert_array_equal(compute(small, wide_view, restored), found)
    restored.close()
    whole.close()
    for damaged in (blob[:-1], blob + b"x", blob[:-5000] + b"\0" * 5000):
        with pytest.raises(UnsupportedError, match="damaged"):
            small.deserialize(damaged, [wide_view])
    assert small.live_contexts == 0
    usual.close()
    small.close()


def test_subgraphs_share_a_context_as_long_as_there_is_room(device: Device, wide_view: GraphView) -> None:
    tiny = view_of(load_model(small_network()), {"x": sample_image(SHAPE)})
    backend = open_backend(device, context_mb=4)  # the large one takes a little more than three
    compiled = backend.compile([tiny, wide_view, tiny, wide_view])
    assert backend.live_contexts == 2
    first, last = compute(backend, tiny, compiled[0], SHAPE), compute(backend, tiny, compiled[2], SHAPE)
    np.testing.assert_array_equal(first, last)
    blob = backend.serialize(compiled) or b""
    for item in compiled:
        item.close()
    assert backend.live_contexts == 0
    restored = backend.deserialize(blob, [tiny, wide_view, tiny, wide_view])
    assert backend.live_contexts == 2
    np.testing.assert_array_equal(compute(backend, tiny, restored[2], SHAPE), last)
    for item in restored:
        item.close()
    backend.close()


def test_a_failure_in_a_later_piece_frees_the_earlier_ones(
    device: Device, wide_view: GraphView, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mace_hexagon import backend as module

    backend, original, calls = open_backend(device, context_mb=1), module.build, []

    def build(*arguments: object) -> object:
        calls.append(arguments[1])
        if len(calls) == 3:
            raise UnsupportedError("no")
        return original(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "build", build)
    with pytest.raises(UnsupportedError, match="no"):
        backend.compile([wide_view])
    assert calls == ["graph0.0", "graph0.1", "graph0.2"]
    assert backend.live_contexts == 0
    backend.close()


def test_a_quantized_network_in_pieces_is_equal_bit_for_bit(device: Device, tmp_path: Path) -> None:
    """What crosses from one piece to the next are the quantized numbers themselves."""
    samples = [sample_image(WIDE, seed) for seed in range(3)]
    path = quantized(perceptron(), tmp_path, samples)  # type: ignore[arg-type]
    outputs = []
    for limit in (3072, 1):
        options = {"hexagon": {"context_mb": limit}}
        with Session(str(path), devices=["hexagon:v75"], strict=True, options=options, cache=False) as session:
            outputs.append(session.run({"x": samples[0]})["y"])
            spans = [span.name for span in session.profile({"x": samples[0]}).spans]
            assert spans.count("Input") > 1 if limit == 1 else spans.count("Input") == 1
    np.testing.assert_array_equal(outputs[0], outputs[1])


def test_a_chain_is_cancelled_between_its_pieces(
    device: Device, wide_view: GraphView, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mace_hexagon.qnn.handles import QnnGraph

    from mace_core.testing.runner import bind

    backend = open_backend(device, context_mb=1)
    (compiled,) = backend.compile([wide_view])
    bound = bind(backend, wide_view, compiled, {"x": sample_image(WIDE)})
    ran: list[str] = []
    original = QnnGraph.execute

    def execute(self: QnnGraph, *arguments: object) -> None:
        ran.append(self.name)
        original(self, *arguments)  # type: ignore[arg-type]
        bound.bindings.cancel.set()

    monkeypatch.setattr(QnnGraph, "execute", execute)
    execution = compiled.new_execution()
    with pytest.raises(CancelledError, match=r"before 'graph0\.1'"):
        execution.run(bound.bindings)
    assert ran == ["graph0.0"]
    execution.close()
    compiled.close()
    backend.close()


@pytest.mark.parametrize("given", [0, -1, "big", 1.5])
def test_a_limit_is_a_number_of_megabytes(device: Device, given: object) -> None:
    from mace_core.errors import UsageError

    with pytest.raises(UsageError, match="'context_mb' takes a number of megabytes from 1 on, not"):
        open_backend(device, context_mb=given)
