"""`mace tune-threads`: what is told from noise, and what is not; the fewest threads among equals."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mace_core import Session
from mace_core.cli.thread_tables import charts, conclusions, table
from mace_core.measurement import Candidate, Measured, advise, candidates_for, compare_threads, estimate
from mace_core.measurement.statistics import is_more, ratios
from mace_core.presentation.charts import charts_svg


def measured(threads: int, latency: float, *, noise: float, seed: int, rounds: int = 15, streams: int = 1) -> Measured:
    """Rounds of log-normal noise around a latency."""
    draw = random.Random(seed)
    latencies = [latency * draw.lognormvariate(0, noise) for _ in range(rounds)]
    return Measured(
        Candidate(threads),
        streams,
        latencies,
        [streams / each for each in latencies],
        [each * threads for each in latencies],
    )


class TestStatistics:
    @given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=60))
    def test_the_interval_holds_the_median_and_lies_within_the_values(self, values: list[float]) -> None:
        found = estimate(values)
        assert min(values) <= found.low <= found.median <= found.high <= max(values)

    def test_the_interval_covers_the_true_median_as_often_as_it_says(self) -> None:
        draw = random.Random(1)
        hits = sum(
            found.low <= 1.0 <= found.high
            for found in (estimate([draw.lognormvariate(0, 0.4) for _ in range(12)]) for _ in range(2000))
        )
        assert 0.94 <= hits / 2000 <= 1

    def test_what_disturbs_both_of_a_pair_cancels_out(self) -> None:
        draw = random.Random(2)
        load = [draw.uniform(1, 5) for _ in range(12)]
        found = ratios([2.0 * each for each in load], load)
        assert (found.low, found.high) == (pytest.approx(2), pytest.approx(2))
        assert is_more(found)
        assert not is_more(ratios(load, load))


class TestAdvice:
    def test_the_fastest_is_chosen_where_it_is_clearly_faster(self) -> None:
        found = advise([measured(n, 10.0 / n, noise=0.03, seed=n) for n in (1, 2, 4)])
        assert (found.latency.best, found.latency.chosen) == (Candidate(4), Candidate(4))
        assert found.latency.matters
        assert found.latency.gain.median == pytest.approx(4, rel=0.1)
        assert "latency: use 4 (" in conclusions(found)[0]

    def test_equals_are_told_as_equals_and_the_fewest_threads_are_chosen(self) -> None:
        found = advise([measured(1, 10, noise=0.03, seed=1), *(measured(n, 5, noise=0.05, seed=n) for n in (2, 3, 4))])
        assert found.latency.chosen == Candidate(2)
        assert set(found.latency.ties) == {Candidate(2), Candidate(3), Candidate(4)}
        assert "cannot be told from it" in conclusions(found)[0]

    def test_threads_that_only_hurt_are_told(self) -> None:
        found = advise([measured(n, 5.0 * n, noise=0.03, seed=n) for n in (1, 2)])
        assert found.latency.chosen == Candidate(1)
        assert conclusions(found)[0].startswith("latency: use 1; it is 2.0")

    def test_noise_alone_makes_no_difference(self) -> None:
        told = [advise([measured(n, 5, noise=0.3, seed=10 * seed + n) for n in (1, 2)]).latency for seed in range(100)]
        assert sum(advice.chosen == Candidate(1) for advice in told) >= 93
        assert sum(advice.matters or advice.hurts for advice in told) <= 14

    def test_a_busy_machine_is_told(self) -> None:
        found = advise([measured(n, 5, noise=0.5, seed=n) for n in (1, 2)])
        assert "measure when it is quiet" in conclusions(found)[-1]
        assert "its energy is not known" in conclusions(found)[2]

    def test_energy_is_told_where_it_is_known(self) -> None:
        both = [measured(n, 8.0 / n, noise=0.01, seed=n) for n in (1, 4)]
        both[0].joules, both[1].joules = [0.5] * 15, [0.75] * 15
        assert conclusions(advise(both))[2].endswith("; 0.7500 J, 1.50 times")


@pytest.mark.parametrize(
    ("most", "big", "counts"),
    [
        (1, 0, [1]),
        (2, 0, [1, 2]),
        (8, 0, [1, 2, 3, 4, 6, 8]),
        (20, 0, [1, 2, 3, 4, 6, 8, 12, 16, 20]),
        (8, 4, [1, 2, 3, 4, 6, 8]),
    ],
)
def test_candidates_are_few_and_reach_the_limit(most: int, big: int, counts: list[int]) -> None:
    found = candidates_for(most, big)
    assert [each.threads for each in found if each.affinity == "none"] == counts
    assert [each.threads for each in found if each.affinity == "big"] == [n for n in counts if n <= big]


def test_real_sessions_take_turns_and_are_closed(model: Path) -> None:
    opened: list[Session] = []

    def open_session(candidate: Candidate) -> Session:
        opened.append(Session(model, devices=["cpu"], options={"cpu": {"threads": candidate.threads}}))
        return opened[-1]

    feeds = {"x": np.ones((4, 3), np.float32)}
    found = compare_threads(open_session, lambda session: feeds, candidates_for(2), rounds=3, most=2)
    assert [each.candidate.threads for each in found.measured] == [1, 2]
    assert [len(each.latencies) for each in found.measured] == [3, 3]
    assert [each.streams for each in found.measured] == [2, 1]
    assert all(rate > 0 for each in found.measured for rate in each.rates)
    for session in opened:
        with pytest.raises(Exception, match="closed"):
            session.run(feeds)
    assert len(table("m", found).rows) == 2
    assert charts_svg(charts(found), "threads").startswith("<svg")
