"""`mace benchmark`: percentiles, several requests at once, larger batches, real inputs."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mace_core.cli.measuring import Timings, batch_inputs, batched, time_runs
from mace_core.errors import InputError, UsageError
from mace_core.scheduler.planning.specs import ValueSpec
from mace_core.tensor import DType


@given(st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=200), st.sampled_from([0.5, 0.9, 0.99]))
def test_a_percentile_is_the_shortest_run_that_enough_do_not_exceed(seconds: list[float], fraction: float) -> None:
    timings = Timings(sorted(seconds), 1.0)
    found = timings.percentile(fraction)
    assert sum(each <= found for each in seconds) >= fraction * len(seconds) - 1e-6
    assert sum(each < found for each in seconds) < fraction * len(seconds)


def test_percentiles_of_a_hundred_runs() -> None:
    timings = Timings([float(k) for k in range(1, 101)], 10.0)
    assert [timings.percentile(f) for f in (0.5, 0.9, 0.99)] == [50, 90, 99]
    assert timings.as_data()["max"] == 100
    assert timings.inferences_per_second(4) == 40


class FakeSession:
    """Counts the runs of each thread, and how many are in progress at once."""

    def __init__(self, failing: int | None = None) -> None:
        self.lock = threading.Lock()
        self.by_thread: dict[str, int] = {}
        self.now = self.most = 0
        self.failing = failing
        self.together = threading.Event()

    def run(self, feeds: Any, cancel: Any = None) -> None:
        with self.lock:
            name = threading.current_thread().name
            self.by_thread[name] = self.by_thread.get(name, 0) + 1
            self.now += 1
            self.most = max(self.most, self.now)
            if self.now > 1:
                self.together.set()
            number = sum(self.by_thread.values())
        self.together.wait(5)
        with self.lock:
            self.now -= 1
        if self.failing == number:
            raise InputError("it fails")


def test_streams_run_at_once_and_each_makes_its_runs() -> None:
    session = FakeSession()
    timings = time_runs(session, {}, runs=5, warmup=2, streams=3)  # type: ignore[arg-type]
    assert sorted(session.by_thread.values()) == [7, 7, 7]
    assert session.most > 1
    assert len(timings.latencies) == 15
    assert list(timings.latencies) == sorted(timings.latencies)
    assert timings.wall_seconds > 0


@pytest.mark.parametrize("number", [1, 4, 12])
def test_a_run_that_fails_ends_all_streams(number: int) -> None:
    with pytest.raises(InputError, match="it fails"):
        time_runs(FakeSession(number), {}, runs=5, warmup=1, streams=3)  # type: ignore[arg-type]


def spec(name: str, *shape: Any) -> ValueSpec:
    return ValueSpec(name, DType.FLOAT32, shape)


def test_the_batch_is_the_free_first_dimension() -> None:
    assert batch_inputs([spec("x", "n", 3), spec("mask", "n", 7), spec("scale", 1, 3)]) == ["x", "mask"]
    assert batch_inputs([spec("x", None, 3), spec("y", "b", 3), spec("other", "rows", 3)]) == ["x", "y"]
    assert batch_inputs([spec("length", "t"), spec("x", "n", "t")]) == ["x"]
    for inputs in ([], [spec("x", 1, 3)], [spec("x", "t")]):
        with pytest.raises(UsageError, match="--batch"):
            batch_inputs(inputs)


def test_rows_are_repeated() -> None:
    feeds = {"x": np.arange(6).reshape(3, 2), "scale": np.ones(2)}
    found = batched(feeds, ["x"], 4)
    assert found["x"].tolist() == [[0, 1], [2, 3], [4, 5], [0, 1]]
    assert found["scale"] is feeds["scale"]
    with pytest.raises(UsageError, match="no rows"):
        batched({"x": np.zeros((0, 2))}, ["x"], 4)


def test_the_command_takes_real_inputs_batches_and_streams(mace: Any, model: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.ones((2, 3), np.float32))
    line = ("benchmark", "model.onnx", "--input", "x.npy", "--batch", "6", "--streams", "2", "--runs", "4", "--json")
    done = mace(*line)
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert (shown["batch"], shown["streams"], shown["runs"]) == (6, 2, 4)
    assert shown["macs"] == 6 * 3 * 2
    latency = shown["latency_seconds"]
    assert 0 < latency["min"] <= latency["p50"] <= latency["p90"] <= latency["p99"] <= latency["max"]
    assert shown["inferences_per_second"] <= 2 * 6 / latency["min"] * 1.001
    assert "6x2" in {step["shape"] for step in shown["steps"]}
