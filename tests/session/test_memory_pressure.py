"""Memory that runs short: what is kept for later is given up, step by step, before anything fails."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from scheduler_models import chain
from scheduler_stand_ins import StandInBackend, StandInProvider, make_provider, registry_of

from mace_core import Session
from mace_core.errors import OutOfMemoryError
from mace_core.provider import Device
from mace_core.tensor import MemoryKind

X = np.array([[-2.0, -1.0, 1.0, 3.0]], np.float32)


class Pooling(StandInBackend):
    """Keeps buffers that nobody uses."""

    pooled = 0
    trims = 0
    fault: Exception | None = None

    def trim(self) -> int:
        self.trims += 1
        if self.fault is not None:
            raise self.fault
        freed, self.pooled = self.pooled, 0
        return freed


def pooling(name: str, **attributes: Any) -> type[StandInProvider]:
    def opened(self: StandInProvider, device: Device, options: object) -> StandInBackend:
        made = Pooling(type(self), device)
        type(self).opened.append(made)
        return made

    return make_provider(name, open=opened, memory=MemoryKind.DEVICE, **attributes)


def no_room(count: int) -> list[Exception | None]:
    return [OutOfMemoryError("no room") for _ in range(count)]


def test_it_goes_step_by_step_and_stops_where_there_is_room() -> None:
    one, other = pooling("one"), pooling("other")
    with (
        Session(chain("Neg"), devices=["other"], registry=registry_of(other), strict=True) as idle,
        Session(chain("Neg"), devices=["one"], registry=registry_of(one), strict=True) as session,
    ):
        idle.run({"x": X})
        session.run({"x": X})
        mine, others = one.opened[0], other.opened[0]
        assert isinstance(mine, Pooling) and isinstance(others, Pooling)

        def run(failures: int) -> tuple[int, int, int, int]:
            mine.pooled = others.pooled = 100
            one.faults[:] = no_room(failures)
            np.testing.assert_array_equal(session.run({"x": X})["y"], -X)
            return mine.pooled, others.pooled, others.executions, others.compiled_alive

        session.run({"x": np.repeat(X, 2, axis=0)})
        assert run(1) == (100, 100, 1, 1), "plans of its own"
        session.run({"x": np.repeat(X, 2, axis=0)})
        assert run(2) == (0, 100, 1, 1), "then what its device keeps"
        session.run({"x": np.repeat(X, 2, axis=0)})
        assert run(3) == (0, 0, 0, 1), "then what other sessions keep"
        session.run({"x": np.repeat(X, 2, axis=0)})
        assert run(4) == (0, 0, 0, 0), "then what idle sessions have ready"
        np.testing.assert_array_equal(idle.run({"x": X})["y"], -X)
        assert others.compiled_alive == 1
        one.faults[:] = no_room(9)
        with pytest.raises(OutOfMemoryError, match="no room"):
            session.run({"x": X})


def test_a_device_that_cannot_give_up_memory_is_told_of_and_costs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    one = pooling("one")
    with Session(chain("Neg"), devices=["one"], registry=registry_of(one)) as session:
        session.run({"x": X})
        mine = one.opened[0]
        assert isinstance(mine, Pooling)
        mine.fault = RuntimeError("the pool is locked")
        session.run({"x": np.repeat(X, 2, axis=0)})
        session.run({"x": X})
        one.faults[:] = no_room(1)
        with caplog.at_level(logging.ERROR):
            np.testing.assert_array_equal(session.run({"x": X})["y"], -X)
        assert mine.trims == 0
        one.faults[:] = no_room(2)
        np.testing.assert_array_equal(session.run({"x": X})["y"], -X)  # elsewhere
        assert mine.trims == 1
        assert "one:0: Backend.trim raised RuntimeError: the pool is locked" in caplog.text


def loop() -> onnx.ModelProto:
    """y is x, negated three times."""
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Identity", ["going"], ["go_on"]), helper.make_node("Neg", ["before"], ["after"])],
        "body",
        [
            value("turn", TensorProto.INT64, []),
            value("going", TensorProto.BOOL, []),
            value("before", TensorProto.FLOAT, [1, 4]),
        ],
        [value("go_on", TensorProto.BOOL, []), value("after", TensorProto.FLOAT, [1, 4])],
    )
    graph = helper.make_graph(
        [helper.make_node("Loop", ["turns", "", "x"], ["y"], body=body)],
        "loop",
        [value("x", TensorProto.FLOAT, [1, 4])],
        [value("y", TensorProto.FLOAT, [1, 4])],
        [numpy_helper.from_array(np.array(3), "turns")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_bodies_of_loops_give_up_what_no_run_is_using() -> None:
    one = make_provider("one", memory=MemoryKind.DEVICE)
    with Session(loop(), devices=["one"], registry=registry_of(one)) as session:
        feeds = {"x": X}
        expected = session.run(feeds)
        backend = one.opened[0]
        before = backend.executions
        assert before
        assert session._runners.give_up_kept() > 0
        assert backend.executions < before and backend.executions == 0
        for name, array in session.run(feeds).items():
            np.testing.assert_array_equal(array, expected[name])


LIMITED = """
import resource, sys
import numpy as np
import psutil
import mace_core as mace

first, second = sys.argv[1:]
x = np.ones((1, 4096), np.float32)
cpu = {"devices": ["cpu"], "strict": True}
with mace.Session(first, **cpu) as idle, mace.Session(second, **cpu) as busy:
    right = idle.run({"x": x})["y"]
    busy.run({"x": x})
    busy._runners.drop_plans()
    mace_pages = psutil.Process().memory_info().vms + (24 << 20)
    resource.setrlimit(resource.RLIMIT_AS, (mace_pages, resource.RLIM_INFINITY))
    busy.run({"x": x})
    sys.stdout.write(f"given up: {not idle._runners.whole.plans()}\\n")
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert np.array_equal(idle.run({"x": x})["y"], right)
"""


@pytest.mark.full
@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS")
def test_a_real_limit_is_met_with_what_an_idle_session_had_packed(tmp_path: Path) -> None:
    """Two models of 64 MB of packed weights each, in a process that has room for one more at most."""
    pytest.importorskip("mace_cpu")
    rng = np.random.default_rng(0)
    paths = []
    for name in ("first", "second"):
        weight = numpy_helper.from_array(rng.standard_normal((4096, 4096)).astype(np.float32), "w")
        info = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["rows", 4096]) for n in ("x", "y")]
        graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], name, info[:1], info[1:], [weight])
        paths.append(str(tmp_path / f"{name}.onnx"))
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), paths[-1])
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, *paths], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "what idle sessions had ready is given up" in done.stderr
    assert done.stdout == "given up: True\n"
