"""Streams of audio: windows, context, overlap, state, the end, and the asynchronous form."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mace_core import Session
from mace_core.errors import DeadlineError, UsageError
from mace_core.graph import Graph, Node, Value
from mace_core.provider.execution import CancelFlag
from mace_core.streaming import Stream
from mace_core.tensor import DType, Tensor, TensorType
from mace_core.testing.models import SILERO_VAD, find_packaged_model, sample_speech

CONTEXT = 64


def running_sum(samples: int | str = "n") -> Graph:
    """y = x, h_out = h + the sum of x: what was heard, and how much of it."""
    graph = Graph("running_sum")
    graph.opset_imports[""] = 17
    x = Value("x", TensorType(DType.FLOAT32, (1, samples)))
    h, out = (Value(name, TensorType(DType.FLOAT32, (1, 1))) for name in ("h", "h_out"))
    y, part = Value("y", TensorType(DType.FLOAT32, (1, samples))), Value("part")
    axes = Value("axes", constant=Tensor.from_numpy(np.array([1])))
    graph.inputs, graph.outputs, graph.initializers = [x, h], [y, out], {"axes": axes}
    graph.nodes = [
        Node("Neg", [x], [y], name="neg"),
        Node("ReduceSum", [x, axes], [part], name="sum"),
        Node("Add", [h, part], [out], name="add"),
    ]
    return graph


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    with Session(running_sum()) as found:
        yield found


def heard(stream: Stream, samples: np.ndarray, cuts: list[int]) -> list[np.ndarray]:
    pieces = np.split(samples, sorted(cuts))
    return [-outputs["y"][0] for piece in pieces for outputs in stream.push(piece)]


@given(data=st.data())
def test_however_samples_are_cut_the_windows_are_the_same(session: Session, data: st.DataObject) -> None:
    window = data.draw(st.integers(1, 12))
    context = data.draw(st.integers(0, window - 1))
    overlap = data.draw(st.integers(0, window - 1 - context))
    count = data.draw(st.integers(0, 60))
    cuts = data.draw(st.lists(st.integers(0, count), max_size=6))
    samples = np.arange(1, count + 1, dtype=np.float32)
    with session.stream({"h": "h_out"}, window=window, context=context, overlap=overlap) as stream:
        windows = heard(stream, samples, cuts)
        rest = [-outputs["y"][0] for outputs in stream.flush()]
    whole = np.concatenate([np.zeros(context, np.float32), samples])
    hop = window - context - overlap
    expected = [whole[at : at + window] for at in range(0, len(whole) - window + 1, hop)]
    np.testing.assert_array_equal(windows, expected or np.zeros((0,)))
    left = whole[len(expected) * hop :]
    assert len(rest) == (len(left) > context + overlap)
    if rest:
        np.testing.assert_array_equal(rest[0], np.pad(left, (0, window - len(left))))


def test_state_is_carried_and_reset(session: Session) -> None:
    with session.stream({"h": "h_out"}, window=4, outputs=["h_out"]) as stream:
        totals = [float(found["h_out"][0, 0]) for found in stream.push(np.ones(10))]
        assert (totals, stream.waiting) == ([4.0, 8.0], 2)
        stream.reset()
        assert stream.waiting == 0
        assert [float(found["h_out"][0, 0]) for found in stream.push(np.ones(4))] == [4.0]


def test_a_window_that_was_stopped_is_run_by_the_next_call(session: Session) -> None:
    flag = CancelFlag()
    flag.set()
    with session.stream({"h": "h_out"}, window=2, outputs=["h_out"]) as stream:
        with pytest.raises(Exception, match="cancel"):
            stream.push(np.ones(4), cancel=flag)
        assert [float(found["h_out"][0, 0]) for found in stream.push(np.ones(0))] == [2.0, 4.0]


def test_windows_follow_the_model_else_200_ms(session: Session) -> None:
    assert session.stream({"h": "h_out"}).window == 3200
    assert session.stream({"h": "h_out"}, rate=8000).window == 1600
    with Session(running_sum(6)) as fixed:
        assert fixed.stream({"h": "h_out"}).window == 6
        with pytest.raises(UsageError, match="takes 6 samples, not windows of 5"):
            fixed.stream({"h": "h_out"}, window=5)


def test_whole_numbers_of_16_bits_are_scaled(session: Session) -> None:
    with session.stream({"h": "h_out"}, window=2) as stream:
        (found,) = stream.push(np.array([-32768, 16384], np.int16))
    np.testing.assert_array_equal(found["y"], [[1.0, -0.5]])


def test_what_does_not_fit_is_told(session: Session) -> None:
    with pytest.raises(UsageError, match="leaves nothing new to hear"):
        session.stream({"h": "h_out"}, window=4, context=2, overlap=2)
    with pytest.raises(UsageError, match="feeds one input with samples, and 'x', 'h' is neither state"):
        session.stream()
    with session.stream({"h": "h_out"}, window=4) as stream, pytest.raises(UsageError, match="in one dimension"):
        stream.push(np.zeros((2, 4)))


def test_a_stream_may_be_awaited(session: Session) -> None:
    async def listen() -> list[float]:
        with session.stream({"h": "h_out"}, window=2, outputs=["h_out"]) as stream:
            found = [*await stream.push_async(np.ones(5)), *await stream.flush_async()]
            with pytest.raises(DeadlineError):
                await stream.push_async(np.ones(2), deadline=0.0)
            found += await stream.push_async(np.ones(0))
            return [float(outputs["h_out"][0, 0]) for outputs in found]

    assert asyncio.run(listen()) == [2.0, 4.0, 5.0, 7.0]


def test_silero_vad_hears_the_same_from_buffers_of_any_length() -> None:
    samples = sample_speech(1.0)
    with Session(str(find_packaged_model(*SILERO_VAD)), devices=["cpu"], strict=True) as session:
        state = np.zeros((2, 1, 128), np.float32)
        expected, before = [], np.zeros(CONTEXT, np.float32)
        for at in range(0, len(samples) - 511, 512):
            chunk = samples[at : at + 512]
            found = session.run({"input": np.concatenate([before, chunk])[None], "state": state})
            state, before = found["stateN"], chunk[-CONTEXT:]
            expected.append(found["output"])
        with session.stream({"state": "stateN"}, context=CONTEXT) as stream:
            assert (stream.window, stream.hop) == (576, 512)
            got = [out["output"] for at in range(0, len(samples), 3200) for out in stream.push(samples[at : at + 3200])]
    np.testing.assert_array_equal(got, expected)
