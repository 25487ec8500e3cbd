"""A governor in a process: real sessions, real threads, temperatures from files or made up."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from mace_core import Session, governor
from mace_core.errors import UsageError
from mace_core.governor import Mode, Rung, pace
from mace_core.native import pool
from mace_core.provider import hookimpl
from mace_core.provider.events import GovernorEvent, GovernorState
from mace_core.provider.hooks import default_hooks

pytest.importorskip("mace_cpu", reason="the CPU provider is not installed: pip install ./plugins/cpu")

X = np.random.default_rng(0).random((1, 8, 40, 40), np.float32)
RUNGS = [
    Rung(Mode("warm", threads=1), 70.0, 60.0),
    Rung(Mode("hot", threads=1, devices=("reference",), frame_rate=5.0), 85.0, 75.0),
]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    weights = np.random.default_rng(1).random((8, 8, 3, 3), np.float32)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])],
        "small",
        [helper.make_tensor_value_info("x", 1, X.shape)],
        [helper.make_tensor_value_info("y", 1, X.shape)],
        [numpy_helper.from_array(weights, "w")],
    )
    path = tmp_path / "small.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    yield
    assert governor.current() is None
    assert (pool._limit, pool._confined, pace().frame_rate) == (pool.MAX_THREADS, None, None)
    assert not [each.name for each in threading.enumerate() if each.name.startswith(("mace gov", "mace sens"))]


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.005)


def begin(sensor: governor.running.Sensor, **arguments: Any) -> governor.Governor:
    return governor.start(RUNGS, sensor=sensor, **{"period": 0.01, "dwell": 0.05, "lost_after": 30.0, **arguments})


def test_results_are_the_same_in_every_mode_and_sessions_come_back(model: Path) -> None:
    celsius = 20.0
    with Session(model, devices=["cpu"], options={"cpu": {"threads": 2}}) as session, begin(lambda: celsius) as found:
        expected = session.run({"x": X})["y"]
        celsius = 72.0
        until(lambda: found.mode.name == "warm" and pool._limit == 1)
        np.testing.assert_array_equal(session.run({"x": X})["y"], expected)
        assert "governor: mode 'warm' (1 thread)" in str(session.explain())
        celsius = 90.0
        until(lambda: set(session.explain().nodes_per_device) == {"reference:0"})
        np.testing.assert_allclose(session.run({"x": X})["y"], expected, rtol=1e-5)
        assert pace(30).frame_rate == 5.0
        celsius = 20.0
        until(lambda: found.mode.name == "full" and set(session.explain().nodes_per_device) == {"cpu:0"})
        np.testing.assert_array_equal(session.run({"x": X})["y"], expected)
        assert found.changes == 4


def test_the_thermal_zones_of_a_board_govern(tmp_path: Path) -> None:
    for number, (kind, millidegrees) in enumerate([("cpu-thermal", "30000"), ("modem", "99000")]):
        folder = tmp_path / f"class/thermal/thermal_zone{number}"
        folder.mkdir(parents=True)
        (folder / "type").write_text(kind)
        (folder / "temp").write_text(millidegrees)
    with governor.start(RUNGS, zones=["cpu*"], root=tmp_path, period=0.01, dwell=0.02) as found:
        until(lambda: found.celsius == 30.0)
        assert found.mode.name == "full"
        (tmp_path / "class/thermal/thermal_zone0/temp").write_text("71000")
        until(lambda: found.mode.name == "warm")
    with pytest.raises(UsageError, match="no thermal zone is called gpu: there are cpu-thermal, modem"):
        governor.start(RUNGS, zones=["gpu"], root=tmp_path)
    with pytest.raises(UsageError, match="nothing to govern by"):
        governor.start(RUNGS, root=tmp_path / "none")


@pytest.mark.parametrize("fault", ["vanishes", "raises", "hangs"])
def test_a_sensor_that_is_lost_means_the_coolest_mode_and_comes_back(fault: str) -> None:
    is_broken, answered = threading.Event(), threading.Event()

    def sensor() -> float | None:
        if not is_broken.is_set():
            return 20.0
        if fault == "raises":
            raise OSError("the bus does not answer")
        if fault == "hangs":
            answered.wait(60)
        return 20.0 if answered.is_set() else None

    with begin(sensor, lost_after=0.1) as found:
        until(lambda: found.celsius == 20.0)
        is_broken.set()
        until(lambda: found.mode.name == "hot")
        answered.set()
        is_broken.clear()
        until(lambda: found.mode.name == "full")


def test_a_sensor_that_hangs_does_not_keep_a_governor_from_ending() -> None:
    answered = threading.Event()
    found = begin(lambda: 20.0 if answered.wait(60) else None)
    found.stop()
    assert governor.current() is None
    answered.set()
    until(lambda: not any(each.name == "mace sensors" for each in threading.enumerate()))


def test_plugins_choose_the_mode_up_to_the_last_threshold_and_hear_of_changes() -> None:
    class Vendor:
        wish: str | None = "warm"

        def __init__(self) -> None:
            self.events: list[GovernorEvent] = []

        @hookimpl
        def mace_select_mode(self, state: GovernorState) -> str | None:
            assert state.modes == ("full", "warm", "hot")
            return self.wish

        @hookimpl
        def mace_on_governor(self, event: GovernorEvent) -> None:
            self.events.append(event)

    vendor, celsius = Vendor(), 20.0
    default_hooks().register(vendor, "vendor")
    try:
        with begin(lambda: celsius) as found:
            until(lambda: found.mode.name == "warm")
            vendor.wish, celsius = "full", 90.0
            until(lambda: found.mode.name == "hot")
            vendor.wish, celsius = "frozen", 20.0  # is no mode: the thresholds decide
            until(lambda: found.mode.name == "full")
            until(lambda: len(vendor.events) == 4)
        assert [(each.before, each.after) for each in vendor.events] == [
            ("full", "warm"),
            ("warm", "hot"),
            ("hot", "warm"),
            ("warm", "full"),
        ]
    finally:
        default_hooks().unregister("vendor")


def test_one_governor_at_a_time() -> None:
    with begin(lambda: 20.0), pytest.raises(UsageError, match="stop it first"):
        begin(lambda: 20.0)
    with begin(lambda: 20.0) as found:
        found.stop()
        found.stop()


def test_a_session_of_no_file_stays_and_that_is_told(model: Path) -> None:
    with Session(model.read_bytes(), devices=["cpu"]) as session, begin(lambda: 90.0) as found:
        until(lambda: bool(found.status_data()["notes"]))
        assert "only a session that was opened from a file" in found.status_data()["notes"][-1]
        assert set(session.explain().nodes_per_device) == {"cpu:0"}


def test_a_session_goes_to_other_devices_while_it_runs(model: Path) -> None:
    with Session(model, devices=["cpu"]) as session:
        expected = session.run({"x": X})["y"]
        wrong: list[object] = []

        def work() -> None:
            for _ in range(60):
                try:
                    np.testing.assert_allclose(session.run({"x": X})["y"], expected, rtol=1e-5)
                except BaseException as error:
                    wrong.append(error)

        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        for devices in [("reference",), None] * 8:
            session.run_on(devices)
        for thread in threads:
            thread.join()
        assert wrong == []
        session.run_on(["reference"])
        assert session.run({"x": X}, ["y"])["y"].shape == X.shape
        model.write_bytes(model.read_bytes() + b"\x00")
        session.run_on(["reference"])  # it is open there already


def test_a_file_that_changed_is_not_taken_for_the_model(model: Path) -> None:
    with Session(model, devices=["cpu"]) as session:
        content = model.read_bytes()
        model.unlink()
        model.write_bytes(content)
        with pytest.raises(Exception, match="has changed since"):
            session.run_on(["reference"])
        assert session.run({"x": X})["y"].shape == X.shape


# --- a governor of some sessions --------------------------------------------------------------------------------------

MOVES = [Rung(Mode("hot", devices=("reference",), frame_rate=5.0), 85.0, 75.0)]


def of_sessions(sensor: governor.running.Sensor, **arguments: Any) -> governor.Governor:
    given = {"period": 0.01, "dwell": 0.05, "lost_after": 30.0, **arguments}
    return governor.for_sessions(MOVES, sensor=sensor, **given)


def test_a_session_is_given_a_governor_of_its_own(model: Path) -> None:
    celsius = 20.0
    with (
        of_sessions(lambda: celsius) as found,
        Session(model, devices=["cpu"], governor=found) as background,
        Session(model, devices=["cpu"]) as foreground,
    ):
        expected = background.run({"x": X})["y"]
        celsius = 90.0
        until(lambda: set(background.explain().nodes_per_device) == {"reference:0"})
        np.testing.assert_allclose(background.run({"x": X})["y"], expected, rtol=1e-5)
        assert "governor: mode 'hot'" in str(background.explain())
        assert set(foreground.explain().nodes_per_device) == {"cpu:0"}
        assert "governor" not in str(foreground.explain())
        assert (found.pace(30).frame_rate, pace(30).frame_rate) == (5.0, 30)
        celsius = 20.0
        until(lambda: set(background.explain().nodes_per_device) == {"cpu:0"})
        celsius = 90.0
        until(lambda: set(background.explain().nodes_per_device) == {"reference:0"})
        found.stop()
        assert set(background.explain().nodes_per_device) == {"cpu:0"} and found.pace(30).frame_rate == 30


def test_the_governor_of_the_process_leaves_such_a_session_where_it_is(model: Path) -> None:
    with (
        of_sessions(lambda: 20.0) as own,
        Session(model, devices=["cpu"], governor=own) as apart,
        Session(model, devices=["cpu"]) as other,
        begin(lambda: 90.0),
    ):
        until(lambda: set(other.explain().nodes_per_device) == {"reference:0"})
        assert set(apart.explain().nodes_per_device) == {"cpu:0"}


def test_threads_belong_to_the_process_and_a_stopped_governor_governs_nobody(model: Path) -> None:
    with pytest.raises(UsageError, match=r"'warm' limits threads .* mace_core\.governor\.start"):
        governor.for_sessions(RUNGS, sensor=lambda: 20.0)
    found = of_sessions(lambda: 20.0)
    found.stop()
    found.stop()
    with pytest.raises(UsageError, match="was stopped"):
        Session(model, devices=["cpu"], governor=found)
