"""Bytes of results alive at each moment of a run."""

from __future__ import annotations

from mace_core.report.liveness import INPUTS, liveness
from mace_core.report.wiring import wire
from mace_core.scheduler.explain import NodeExplanation
from mace_core.scheduler.profile import Profile, Span


def node(name: str, reads: str, writes: str, device: str = "cpu:0") -> NodeExplanation:
    return NodeExplanation(name, "Op", device, "", {}, "", 0, "", (name,), tuple(reads.split()), tuple(writes.split()))


SIZES = {"x": 1, "a": 10, "b": 100, "c": 1000, "y": 10000}


def test_a_value_lives_from_the_step_that_writes_it_to_the_end_of_the_last_that_reads_it() -> None:
    wiring = wire([node("A", "x", "a"), node("B", "a", "b", "acme:0"), node("C", "a b", "y")])
    profile = Profile(start_ns=100, end_ns=900)
    profile.spans = [
        Span("A", ("A",), "cpu:0", 200, 300),
        Span("B", ("B",), "acme:0", 300, 400),
        Span("C", ("C",), "cpu:0", 500, 600),
    ]
    found = liveness(profile, wiring, SIZES, ["x"], ["y"])
    assert found.times_ns == (0, 100, 200, 400, 500)
    assert found.nbytes["cpu:0"] == (0, 10, 10, 10010, 0)
    assert found.nbytes["acme:0"] == (0, 0, 100, 100, 0)
    assert found.nbytes[INPUTS] == (1, 1, 0, 0, 0)
    assert found.peak_bytes == 10110
    assert found.unsized == 0


def test_what_stays_within_one_step_is_never_in_memory() -> None:
    wiring = wire([node("A", "x", "a"), node("B", "a", "b"), node("C", "b", "y")])
    profile = Profile(start_ns=0, end_ns=30)
    profile.spans = [Span("A+B", ("A", "B"), "cpu:0", 10, 20), Span("C", ("C",), "cpu:0", 20, 30)]
    found = liveness(profile, wiring, SIZES, [], ["y"])
    assert dict(zip(found.times_ns, found.nbytes["cpu:0"], strict=True)) == {0: 0, 10: 100, 20: 10100, 30: 0}
    whole = liveness(profile, wiring, SIZES, [], ["b", "y"])  # an output is, whoever reads it
    assert whole.nbytes["cpu:0"] == (0, 100, 10100, 0)


def test_values_whose_size_only_the_run_tells_are_counted_apart() -> None:
    wiring = wire([node("A", "x", "a"), node("B", "a", "y")])
    profile = Profile(start_ns=0, end_ns=30)
    profile.spans = [Span("A", ("A",), "cpu:0", 10, 20), Span("B", ("B",), "cpu:0", 20, 30)]
    found = liveness(profile, wiring, {"y": 7}, [], ["y"])
    assert found.unsized == 1
    assert found.peak_bytes == 7
