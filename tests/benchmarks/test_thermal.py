"""The simulated device: exact whatever the step, and cooler with the governor."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.thermal.network import AIR, Network, Resistance, power, small_device
from benchmarks.thermal.simulate import FrameCost, simulate
from mace_core.governor import Ladder, default_rungs


@given(
    st.lists(st.tuples(st.floats(0.1, 400.0), st.floats(0.0, 4.0)), min_size=1, max_size=8),
    st.integers(2, 40),
)
def test_the_size_of_a_step_does_not_matter(trace: list[tuple[float, float]], parts: int) -> None:
    whole, divided = small_device(), small_device()
    for seconds, busy in trace:
        whole.advance(seconds, power(busy))
        for _ in range(parts):
            divided.advance(seconds / parts, power(busy))
    assert divided.temperatures == pytest.approx(whole.temperatures, abs=1e-8)


def test_one_node_follows_the_law_of_one_node() -> None:
    device = Network({"die": 2.0}, [Resistance("die", AIR, 3.0)], ambient=20.0)
    device.advance(6.0, {"die": 5.0})  # one time constant
    assert device.temperatures["die"] == pytest.approx(20.0 + 15.0 * (1 - 2.718281828459045**-1))


def test_heat_that_is_kept_and_heat_that_leaves_are_all_there_is() -> None:
    device = small_device()
    device.advance(1e6, power(2))
    assert device.temperatures == pytest.approx(device.steady(power(2)))
    watts = power(2)["die"]
    assert device.temperatures["skin"] - device.ambient == pytest.approx(9.0 * watts)
    assert device.temperatures["die"] - device.temperatures["package"] == pytest.approx(1.5 * watts)


@given(st.floats(0.0, 4.0), st.floats(0.0, 4.0))
def test_more_work_is_never_cooler(first: float, second: float) -> None:
    less, more = sorted([first, second])
    assert small_device().steady(power(less))["die"] <= small_device().steady(power(more))["die"] + 1e-9


def test_the_governor_is_at_least_five_degrees_cooler_where_work_never_ends() -> None:
    ladder = Ladder(default_rungs(2))
    costs = {mode.name: FrameCost(0.150, min(2, mode.threads or 2)) for mode in ladder.modes}
    free = simulate(costs, 30.0, 3600, None)
    governed = simulate(costs, 30.0, 3600, ladder)
    assert free.last(600)[0] - governed.last(600)[0] >= 5.0
    assert max(governed.die) < 80.0
    assert 0.4 < governed.last(600)[2] / free.last(600)[2] < 1.0


def test_a_light_stream_is_left_alone() -> None:
    ladder = Ladder(default_rungs(2))
    costs = {mode.name: FrameCost(0.008, 2) for mode in ladder.modes}
    governed = simulate(costs, 30.0, 3600, ladder)
    assert set(governed.modes) == {"full"}
    assert governed.frames[-1] == pytest.approx(30.0)
