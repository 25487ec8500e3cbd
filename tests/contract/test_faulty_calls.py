"""Whatever any call of the contract raises or returns wrongly is told in one sentence with model, device and call."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import faulty_calls
import numpy as np
import onnx
import pytest
import scheduler_stand_ins as stand_ins
from faulty_calls import CALLS, Call
from loop_models import LoopWriter
from scheduler_models import chain
from scheduler_stand_ins import StandInBackend, StandInProvider, make_provider, registry_of

from mace_core.errors import (
    DeviceLostError,
    MaceError,
    ModelError,
    OutOfMemoryError,
    ProviderBugError,
    ProviderError,
    StrictPlacementError,
    TransientError,
    UnsupportedError,
)
from mace_core.graph import GraphView
from mace_core.provider import (
    Allocator,
    Backend,
    Bindings,
    CompiledSubgraph,
    DataTransfer,
    Event,
    Execution,
    ExecutionProvider,
    Stream,
)
from mace_core.scheduler.profile import Profile
from mace_core.session import Session

X = np.array([[-2.0, -1.0, 1.0, 3.0]], np.float32)
LABEL = "model 'small'"

RAISED: dict[str, Callable[[], BaseException]] = {
    "ValueError": lambda: ValueError("a defect"),
    "SystemExit": lambda: SystemExit("a defect"),
    "MemoryError": lambda: MemoryError("a defect"),
    "ProviderError": lambda: ProviderError("a defect"),
    "OutOfMemoryError": lambda: OutOfMemoryError("a defect"),
    "DeviceLostError": lambda: DeviceLostError("a defect"),
    "TransientError": lambda: TransientError("a defect"),
    "ModelError": lambda: ModelError("a defect"),
}

WRONG = [(call, label) for call in CALLS for label in call.wrong]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MACE_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture(autouse=True)
def storing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand-ins that store what they compile."""

    def deserialize(self: StandInBackend, blob: bytes, views: Sequence[GraphView]) -> list[CompiledSubgraph]:
        return self.compile(views)

    monkeypatch.setattr(StandInBackend, "serialize", lambda self, compiled: b"stored", raising=False)
    monkeypatch.setattr(StandInBackend, "deserialize", deserialize, raising=False)


TURNS = {"m": 3, "go": True, "s_0": X}


def turning() -> onnx.ModelProto:
    """A Loop whose body is one subgraph."""
    loop = LoopWriter()
    loop.carry("s", loop.node("Neg", "s"), shape=[1, 4])
    return loop.model()


def use(call: Call, sentences: list[str]) -> None:
    """Open a session, run it, look at it and close it; what is raised is a sentence too."""
    provider = make_provider("odd", **call.provider)
    if call.needs == "failure":
        provider.faults.append(UnsupportedError("so that work is given up"))
    options = {"odd": {"speed": 1}} if call.needs == "options" else None
    model, feeds = (turning(), TURNS) if call.needs == "turns" else (chain("Neg", "Abs"), {"x": X})
    try:
        with Session(model, devices=["odd"], options=options, registry=registry_of(provider)) as session:
            session.run(feeds)
            str(session.explain())
            session.measure_peaks()
            if call.needs == "pressure":
                session._runners.trim_devices()
    except MaceError as error:
        sentences.append(str(error))


def tell(
    call: Call, deed: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> list[str]:
    """What a user meets who runs a model on a provider that does ``deed`` in ``call``: errors, and warnings."""
    found: list[str] = []
    if call.needs == "second start":
        use(call, [])
        caplog.clear()
    monkeypatch.setattr(call.owner, call.method, property(deed) if call.is_attribute else deed, raising=False)
    with caplog.at_level(logging.DEBUG, "mace"):
        use(call, found)
    return found + [record.getMessage() for record in caplog.records if record.levelno >= logging.INFO]


def names(call: Call) -> tuple[str, ...]:
    """What the sentence has to name.  A probe is not about a model, and there is no device before it."""
    if call.method == "probe":
        return "odd", call.name
    return LABEL, "odd" if call.method == "probe_with" else "odd:0", call.name


@pytest.mark.parametrize("kind", RAISED)
@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.name)
def test_what_a_call_raises_names_model_device_and_call(
    call: Call, kind: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    raised: list[BaseException] = []

    def deed(*arguments: object, **named: object) -> object:
        raised.append(RAISED[kind]())
        raise raised[-1]

    told = tell(call, deed, monkeypatch, caplog)
    assert raised, "the core makes this call"
    fitting = [text for text in told if all(name in text for name in (*names(call), "a defect"))]
    assert fitting, told
    assert all("\n" not in text for text in fitting)
    traced = [record.exc_info[1] for record in caplog.records if record.exc_info is not None]
    assert any(error in raised for error in traced), "its traceback is in the log"


@pytest.mark.parametrize(("call", "label"), WRONG, ids=[f"{call.name}-{label}" for call, label in WRONG])
def test_what_a_call_returns_wrongly_names_model_device_and_call(
    call: Call, label: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    told = tell(call, call.wrong[label], monkeypatch, caplog)
    fitting = [text for text in told if all(name in text for name in (*names(call), "a defect of the provider"))]
    assert fitting, told
    assert all("\n" not in text for text in fitting)


def contract_methods() -> Iterator[str]:
    for kind in (
        *(ExecutionProvider, Backend, CompiledSubgraph, Execution, Allocator, DataTransfer),
        *(Stream, Event),
    ):
        for name, member in vars(kind).items():
            if not name.startswith("_") and (inspect.isfunction(member) or isinstance(member, property)):
                yield f"{kind.__name__}.{name}"


NEVER_CALLED = {"Event.is_done"}
"""Marked in the contract as reserved."""

ONLY_BOUND = {"Execution.undo"}
"""Called for state that stays with a stream of runs alone; see tests/binding."""


ONLY_CHAINED = {"Execution.native_stage"}
"""Called for stages of plans for many sizes, which the stand-ins do not make; see tests/scheduler/test_chains.py."""


ONLY_LENT = {"Backend.export_memory"}
"""Called where another device reads its memory; see tests/scheduler/test_lent_memory.py."""


def test_the_table_has_every_call_of_the_contract() -> None:
    assert (
        set(contract_methods()) - {call.name for call in CALLS} == NEVER_CALLED | ONLY_BOUND | ONLY_CHAINED | ONLY_LENT
    )


# --- what is particular -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["OutOfMemoryError", "TransientError", "UnsupportedError"])
def test_a_failure_of_capability_keeps_its_class(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import mace_core.errors as errors

    def capability(self: StandInBackend, view: GraphView) -> object:
        raise getattr(errors, kind)("no room to look")

    monkeypatch.setattr(StandInBackend, "capability", capability)
    registry = registry_of(make_provider("odd"))
    with Session(chain("Neg"), devices=["odd"], registry=registry) as session:
        session.run({"x": X})
        (node,) = session.explain().nodes
    assert node.declined["odd:0"] == f"its capability check failed: {kind}: no room to look"
    with pytest.raises(StrictPlacementError, match=f"{kind}: no room to look") as caught:
        Session(chain("Neg", shape=(1, 4)), devices=["odd"], strict=True, registry=registry)
    chained: BaseException | None = caught.value
    while chained is not None and type(chained).__name__ != kind:
        chained = chained.__cause__
    assert chained is not None, "a program can look at what was raised"


@pytest.mark.parametrize(
    ("name", "answer", "reason"),
    [
        (
            "capability",
            None,
            "its capability check failed: Backend.capability returned None where Capability is promised",
        ),
        ("compile", [None], "compile failed: Backend.compile returned a sequence with None where CompiledSubgraph"),
        ("compile", None, "compile failed: Backend.compile returned None where a sequence of CompiledSubgraph"),
    ],
)
def test_a_reason_says_which_answer_was_wrong(
    name: str, answer: object, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StandInBackend, name, lambda self, given: answer)
    with Session(chain("Neg"), devices=["odd"], registry=registry_of(make_provider("odd"))) as session:
        session.run({"x": X})
        (node,) = session.explain().nodes
    assert node.declined["odd:0"].startswith(reason)
    assert "\n" not in node.declined["odd:0"]


@pytest.mark.parametrize("when", ["run", "capability", "compile"])
def test_a_lost_device_that_does_not_know_its_name_is_used_no_more(when: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def lose(*arguments: object) -> object:
        raise DeviceLostError("it was unplugged")

    provider = make_provider("odd")
    owner = stand_ins.StandInExecution if when == "run" else StandInBackend
    with Session(chain("Neg"), devices=["odd"], registry=registry_of(provider)) as session:
        monkeypatch.setattr(owner, when, lose)
        np.testing.assert_array_equal(session.run({"x": X})["y"], -X)
        assert session.explain().refused["odd:0"].startswith("it was lost: it was unplugged (1 failed run); it rests")
        assert session.explain().nodes_per_device.keys() == {"reference:0"}


def test_strict_after_a_loss_says_that_the_device_was_lost() -> None:
    provider = make_provider("odd", faults=[DeviceLostError("it was unplugged")])
    with Session(chain("Neg"), devices=["odd"], strict=True, registry=registry_of(provider)) as session:
        with pytest.raises(DeviceLostError, match="odd:0"):
            session.run({"x": X})
        with pytest.raises(StrictPlacementError) as caught:
            session.run({"x": X})
    assert "odd:0: not used: it was lost: it was unplugged" in str(caught.value)
    assert "it rests, and is tried again in" in str(caught.value)
    assert str(caught.value).startswith(LABEL)


@pytest.mark.parametrize(
    "arguments",
    [
        (None, ("n",), 1, 2),
        ("step", None, 1, 2),
        ("step", (None,), 1, 2),
        ("step", "text", 1, 2),
        ("step", (), None, 2),
    ],
)
def test_a_span_that_is_none_is_a_defect(arguments: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    def run(self: object, bindings: Bindings) -> None:
        assert bindings.profile is not None
        bindings.profile(*arguments)

    monkeypatch.setattr(stand_ins.StandInExecution, "run", run)
    with (
        Session(chain("Neg"), devices=["odd"], strict=True, registry=registry_of(make_provider("odd"))) as session,
        pytest.raises(ProviderBugError, match=r"odd:0: Execution.run raised TypeError: profile was given"),
    ):
        session.run({"x": X}, profile=Profile())


@pytest.mark.parametrize("arguments", [(7, None, ()), (-1, None, ()), (0, None, (1,)), ("a", None, (1,))])
def test_an_output_that_is_none_is_a_defect(arguments: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    from scheduler_models import nonzero_model

    def run(self: object, bindings: Bindings) -> None:
        assert bindings.allocate_output is not None
        bindings.allocate_output(*arguments)

    monkeypatch.setattr(stand_ins.StandInExecution, "run", run)
    with (
        Session(nonzero_model(), devices=["odd"], strict=True, registry=registry_of(make_provider("odd"))) as session,
        pytest.raises(ProviderBugError, match=r"odd:0: Execution.run raised ValueError: allocate_output was given"),
    ):
        session.run({"x": X})


def test_an_error_of_a_provider_tells_the_same_after_a_trip_to_another_process() -> None:
    import pickle

    provider = make_provider("odd", faults=[OutOfMemoryError("no room")])
    with (
        Session(chain("Neg"), devices=["odd"], strict=True, registry=registry_of(provider)) as session,
        pytest.raises(OutOfMemoryError) as caught,
    ):
        session.run({"x": X})
    restored = pickle.loads(pickle.dumps(caught.value))
    assert str(restored) == str(caught.value) == "model 'small': odd:0: Execution.run: no room"
    assert restored.device == "odd:0"


def test_the_stand_ins_are_what_they_say() -> None:
    """Without a fault the runs that the table is tried with succeed."""
    for call in faulty_calls.CALLS:
        found: list[str] = []
        use(call, found)
        if call.needs != "failure":
            assert not found
        assert StandInProvider.faults == []
