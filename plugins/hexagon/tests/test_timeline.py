"""A profiled run tells what each QNN operation took, under the names of the model's nodes."""

from __future__ import annotations

import pytest
from hexagon_support import open_backend, small_network
from mace_hexagon import timeline
from mace_hexagon.qnn.profiling import ProfileEvent
from mace_hexagon.timeline import CALL, Step, operation, steps

from mace_core.frontend.load import load_model
from mace_core.provider import Device
from mace_core.session import Session
from mace_core.testing.models import sample_image

SHAPE = (1, 3, 20, 18)
MICROSECONDS, CYCLES = 1, 3


def node(name: str, cycles: int) -> ProfileEvent:
    return ProfileEvent(404, CYCLES, cycles, name, ())


def test_operations_are_laid_behind_each_other_over_the_time_the_htp_computed() -> None:
    nodes = (node("Input OpId_2 (cycles)", 10), node("a/Conv2d:OpId_7 (cycles)", 0), node("b/Relu:OpId_9 (cycles)", 30))
    events = (
        ProfileEvent(8001, 4, 4, "Number of HVX threads used", ()),
        ProfileEvent(3003, CYCLES, 40, "Accelerator (execute) time (cycles)", nodes),
        ProfileEvent(3004, MICROSECONDS, 8, "Accelerator (execute) time", ()),
        ProfileEvent(400, MICROSECONDS, 9, "QNN (execute) time", ()),
    )
    assert steps(events, "graph0", 1000, 11000) == [
        Step(CALL, 1000, 3000),
        Step("Input", 3000, 5000),
        Step("a/Conv2d", 5000, 5000),
        Step("b/Relu", 5000, 11000),
    ]


def test_without_operations_the_graph_is_one_step_beside_its_call() -> None:
    events = (ProfileEvent(3004, MICROSECONDS, 8, "Accelerator (execute) time", ()),)
    assert steps(events, "graph0", 1000, 11000) == [Step(CALL, 1000, 3000), Step("graph0", 3000, 11000)]
    assert steps((), "graph0", 1000, 11000) == [Step("graph0", 1000, 11000)]
    longer = (ProfileEvent(3004, MICROSECONDS, 80, "Accelerator (execute) time", ()),)  # than the run: clocks differ
    assert steps(longer, "graph0", 1000, 11000) == [Step("graph0", 1000, 11000)]


@pytest.mark.parametrize(
    ("identifier", "name"),
    [
        ("conv_3/Conv2d:OpId_23 (cycles)", "conv_3/Conv2d"),
        ("a:OpId_1/x:OpId_4 (cycles)", "a:OpId_1/x"),
        ("Output OpId_3 (cycles)", "Output"),
        ("something else", "something else"),
    ],
)
def test_names_of_operations(identifier: str, name: str) -> None:
    assert operation(identifier) == name


def profiled(tmp_cache: bool, **options: object) -> tuple[list[tuple[str, tuple[str, ...]]], bool]:
    """Names and nodes of the spans of a run, and whether they lie in it and follow each other."""
    with Session(
        small_network(), devices=["hexagon:v75"], strict=True, options={"hexagon": options}, cache=tmp_cache
    ) as session:
        profile = session.profile({"x": sample_image(SHAPE)})
    spans = [span for span in profile.spans if span.device == "hexagon:v75"]
    times = [moment for span in spans for moment in (span.start_ns, span.end_ns)]
    ordered = times == sorted(times) and profile.start_ns <= times[0] and times[-1] <= profile.end_ns
    return [(span.name, span.source) for span in spans], ordered


def test_every_node_of_the_model_has_its_step(device: Device) -> None:
    spans, ordered = profiled(False)
    assert ordered
    names = {node.name for node in load_model(small_network()).nodes if node.op_type != "Identity"}  # no operation
    told = {source for _, sources in spans for source in sources}
    assert told == names
    assert len([name for name, _ in spans if "Conv2d" in name]) >= 3
    assert {"Input", "Output"} <= {name for name, _ in spans}


def test_a_graph_from_the_cache_tells_the_same(
    device: Device, tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MACE_CACHE_DIR", str(tmp_path))
    compiled, _ = profiled(True)
    restored, ordered = profiled(True)
    assert ordered
    assert restored == compiled


def test_basic_profiles_tell_of_the_graph_only(device: Device) -> None:
    spans, ordered = profiled(False, profiling="basic")
    assert ordered
    assert [name for name, _ in spans if name != CALL] == ["graph0"]


def test_the_threads_that_were_asked_for_are_used(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[ProfileEvent] = []
    original = timeline.steps

    def listen(events: tuple[ProfileEvent, ...], *rest: object) -> list[Step]:
        heard.extend(events)
        return original(events, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr("mace_hexagon.execution.steps", listen)
    profiled(False, hvx_threads=3)
    assert [event.value for event in heard if event.name == "Number of HVX threads used"] == [3]


def test_profiles_are_freed_and_a_run_without_one_makes_none(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    from mace_hexagon.qnn.profiling import QnnProfile

    made: list[QnnProfile] = []
    original = QnnProfile.__init__

    def init(self: QnnProfile, *arguments: object) -> None:
        original(self, *arguments)  # type: ignore[arg-type]
        made.append(self)

    monkeypatch.setattr(QnnProfile, "__init__", init)
    with Session(small_network(), devices=["hexagon:v75"], strict=True, cache=False) as session:
        session.run({"x": sample_image(SHAPE)})
        assert not made
        session.profile({"x": sample_image(SHAPE)})
    assert made
    assert not any(profile.handle for profile in made)
    backend = open_backend(device)
    backend.close()
