"""Streams keep to the governor's rate where it is lower than theirs."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mace_core.errors import UsageError
from mace_core.governor import pace, pacing


class Clock:
    """Time that stands still until somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    found = Clock()
    monkeypatch.setattr(pacing, "time", found)
    yield found
    pacing.set_frame_rate(None)


def times(clock: Clock, frame_rate: float | None, count: int) -> list[float]:
    pacer = pace(frame_rate)
    found = []
    for _ in range(count):
        pacer.wait()
        found.append(clock.now)
    return [round(each - found[0], 6) for each in found]


def test_a_pacer_waits_for_its_own_rate(clock: Clock) -> None:
    assert times(clock, 10.0, 4) == [0.0, 0.1, 0.2, 0.3]
    assert times(clock, None, 3) == [0.0, 0.0, 0.0]


def test_the_lower_of_two_rates_holds(clock: Clock) -> None:
    pacing.set_frame_rate(5.0)
    assert times(clock, 10.0, 3) == [0.0, 0.2, 0.4]
    assert times(clock, 2.0, 3) == [0.0, 0.5, 1.0]


def test_a_rate_that_changes_holds_from_the_next_frame_on(clock: Clock) -> None:
    pacer = pace(10.0)
    pacer.wait()
    pacing.set_frame_rate(2.0)
    start = clock.now
    pacer.wait()
    assert clock.now - start == pytest.approx(0.5)
    pacing.set_frame_rate(None)
    pacer.wait()
    assert clock.now - start == pytest.approx(0.6)


def test_frames_that_come_too_early_are_dropped(clock: Clock) -> None:
    def camera() -> Iterator[int]:
        for number in range(30):
            yield number
            clock.now += 1 / 30 + 1e-9

    pacing.set_frame_rate(10.0)
    pacer = pace()
    assert list(pacer.frames(camera())) == list(range(0, 30, 3))
    assert (pacer.taken, pacer.dropped) == (10, 20)


def test_an_event_loop_goes_on_while_a_stream_waits() -> None:
    async def both() -> list[str]:
        found: list[str] = []

        async def stream() -> None:
            pacer = pace(50.0)
            for _ in range(3):
                await pacer.wait_async()
                found.append("frame")

        async def other() -> None:
            while found.count("frame") < 3:
                await asyncio.sleep(0.001)
                found.append("other")

        await asyncio.gather(stream(), other())
        return found

    found = asyncio.run(both())
    assert found.count("other") > 1


@given(st.lists(st.floats(0.0, 0.5), min_size=1, max_size=80), st.floats(1.0, 60.0))
def test_no_window_has_more_frames_than_the_rate_allows(gaps: list[float], rate: float) -> None:
    clock, before = Clock(), pacing.time
    pacing.time = clock  # type: ignore[assignment]
    try:
        pacer, taken = pace(rate), []
        for gap in gaps:
            clock.now += gap
            if pacer.is_due():
                taken.append(clock.now)
    finally:
        pacing.time = before
    for first, last in itertools.combinations(range(len(taken)), 2):
        assert last - first + 1 <= math.floor((taken[last] - taken[first]) * rate + 1e-6) + 2


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), float("inf")])
def test_rates_that_cannot_be_are_refused(rate: float) -> None:
    with pytest.raises(UsageError, match="more than 0"):
        pace(rate)
