"""`mace benchmark --seconds`: several streams at once, over one or more sessions."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from mace_core import Session
from mace_core.cli.benchmark_throughput import charts, table
from mace_core.errors import InputError
from mace_core.measurement import Stream, Throughput, measure_throughput
from mace_core.presentation.charts import charts_svg

FEEDS = {"x": np.ones((2, 3), np.float32)}


def made(*streams: Stream, batch: int = 1) -> Throughput:
    seconds = max(stream.spans[-1][1] for stream in streams)
    return Throughput(streams, batch, seconds, 1.5, 10.0)


class TestFigures:
    def test_rates_and_percentiles(self) -> None:
        spans = tuple((k * 0.1, (k + 1) * 0.1) for k in range(20))
        found = made(Stream("cpu", spans), Stream("cpu", spans), batch=3)
        assert found.runs == 40
        assert found.frames_per_second == pytest.approx(60)
        assert found.summary()["p99"] == pytest.approx(0.1)
        assert found.joules_per_frame == pytest.approx(10 / 60)

    def test_a_slow_stream_that_ends_late_does_not_dilute_the_others(self) -> None:
        fast = Stream("cpu", tuple((k * 0.01, (k + 1) * 0.01) for k in range(100)))
        found = made(fast, Stream("slow", ((0.0, 5.0),)))
        assert found.summary("cpu")["frames_per_second"] == pytest.approx(100)
        assert found.frames_per_second == pytest.approx(100.2)
        assert found.devices() == ["cpu", "slow"]
        assert [row[0] for row in table("m", found).rows] == ["cpu", "slow", "all"]

    def test_the_rate_over_time_counts_every_run_once(self) -> None:
        found = made(Stream("cpu", tuple((k * 0.1, (k + 1) * 0.1) for k in range(20))))
        windows = found.rate_over_time(4)
        assert sum(rate for _, rate in windows) * 0.5 == pytest.approx(20)
        assert charts_svg(charts(found), "throughput").startswith("<svg")


def test_streams_share_the_sessions_in_turn_and_stop_in_time(model: Path) -> None:
    with Session(model, devices=["cpu"]) as one, Session(model, devices=["cpu"]) as other:
        sessions = [("one", one), ("other", other)]
        found = measure_throughput(sessions, FEEDS, streams=3, seconds=0.2, warmup=1, batch=2)
    assert [stream.device for stream in found.streams] == ["one", "other", "one"]
    assert all(stream.spans[-1][1] > 0.1 for stream in found.streams)
    pairs = [pair for stream in found.streams for pair in itertools.pairwise(stream.spans)]
    assert all(first[1] <= second[0] for first, second in pairs)
    assert found.processor_seconds > 0


@pytest.mark.parametrize("warmup", [0, 1])
def test_a_run_that_fails_ends_all_streams_with_its_error(model: Path, warmup: int) -> None:
    with Session(model, devices=["cpu"]) as session, pytest.raises(InputError):
        measure_throughput([("cpu", session)], {"x": np.ones((2, 5), np.float32)}, streams=3, seconds=60, warmup=warmup)
