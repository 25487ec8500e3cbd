"""Every method of a provider, misbehaving in every way: the session goes on, or says what is wrong in its own words."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pytest
import scheduler_stand_ins as stand_ins
from scheduler_models import chain, model, op, tensor
from scheduler_stand_ins import StandInBackend, StandInProvider, make_provider, registry_of

from mace_core.errors import MaceError, ProviderError, describe_error
from mace_core.faults import FaultLimits
from mace_core.graph import Attribute, AttributeKind, GraphView
from mace_core.provider import Capability, Claim, Device, ProbeResult, inventory
from mace_core.provider import inventory as inventory_function
from mace_core.session import Session
from mace_core.tensor import MemoryKind

X = np.array([[-2.0, -1.0, 1.0, 3.0]], np.float32)
RIGHT = np.abs(-X)

LONG = 60.0
"""Only a hang takes so many seconds."""


class UnspeakableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class Deadly(BaseException):
    def __str__(self) -> str:
        raise SystemExit(3)


MISDEEDS: dict[str, Callable[[], object]] = {
    "SystemExit": lambda: SystemExit(5),
    "GeneratorExit": GeneratorExit,
    "StopIteration": StopIteration,
    "unspeakable": UnspeakableError,
    "deadly": Deadly,
    "unspeakable-of-ours": lambda: ProviderError(UnspeakableError()),  # type: ignore[arg-type]
    "returns-none": lambda: None,
    "returns-junk": object,
}


def misbehave(deed: str) -> Callable[..., Any]:
    def method(*arguments: object, **named: object) -> object:
        made = MISDEEDS[deed]()
        if isinstance(made, BaseException):
            raise made
        return made

    return method


METHODS: list[tuple[type, str]] = [
    *((StandInProvider, name) for name in ("probe", "open")),
    *((StandInBackend, name) for name in ("capability", "compile", "allocators", "transfer", "create_stream", "close")),
    *((StandInBackend, name) for name in ("serialize_parts", "compatibility_key", "check_compatibility", "notes")),
    *((stand_ins.StandInSubgraph, name) for name in ("new_execution", "close")),
    *((stand_ins.StandInExecution, name) for name in ("run", "enqueue", "close")),
    *((stand_ins.DeviceMemory, name) for name in ("allocate", "free")),
    *((stand_ins.CountingTransfer, name) for name in ("to_device", "to_host")),
    *((stand_ins.LazyStream, name) for name in ("synchronize", "close")),
]


EARLY = ("probe", "open", "capability", "compile", "serialize_parts", "compatibility_key", "notes")


@pytest.mark.parametrize("deed", MISDEEDS)
@pytest.mark.parametrize(("owner", "name"), METHODS, ids=[f"{owner.__name__}.{name}" for owner, name in METHODS])
def test_whatever_a_method_does(monkeypatch: pytest.MonkeyPatch, owner: type, name: str, deed: str) -> None:
    """A provider that nobody named ends no session; what it does in a run is told in the words of this framework."""
    if name == "notes":
        monkeypatch.setattr(owner, name, property(misbehave(deed)), raising=False)
    else:
        monkeypatch.setattr(owner, name, misbehave(deed), raising=False)
    provider = make_provider("odd", memory=MemoryKind.DEVICE, has_queue=name != "run")
    try:
        with Session(chain("Neg", "Abs"), registry=registry_of(provider)) as session:
            found = session.run({"x": X})["y"]
            str(session.explain())
    except MaceError as error:
        assert str(error)
        assert name not in EARLY
    else:
        if not deed.startswith("returns"):
            np.testing.assert_array_equal(found, RIGHT)


@pytest.mark.parametrize("deed", [deed for deed in MISDEEDS if not deed.startswith("returns")])
def test_work_that_can_not_be_waited_for(monkeypatch: pytest.MonkeyPatch, deed: str) -> None:
    """An event that says nothing of its work looks like one that is still going on, so only errors are told."""
    monkeypatch.setattr(stand_ins.LazyEvent, "wait", misbehave(deed))
    provider = make_provider("odd", memory=MemoryKind.DEVICE, has_queue=True)
    registry = registry_of(provider)
    with Session(chain("Neg", "Abs"), registry=registry) as session:
        np.testing.assert_array_equal(session.run({"x": X})["y"], RIGHT)  # on the next device
    with pytest.raises(MaceError), Session(chain("Neg", "Abs"), strict=True, registry=registry) as session:
        session.run({"x": X})


@pytest.mark.parametrize("deed", ["SystemExit", "deadly", "returns-junk"])
@pytest.mark.parametrize("name", ["probe", "open"])
def test_a_named_provider_that_can_not_be_had_is_an_error(
    monkeypatch: pytest.MonkeyPatch, name: str, deed: str
) -> None:
    monkeypatch.setattr(StandInProvider, name, misbehave(deed))
    with (
        pytest.raises(MaceError, match="odd"),
        Session(chain("Neg", "Abs"), devices=["odd"], registry=registry_of(make_provider("odd"))) as session,
    ):
        session.run({"x": X})


# --- changing what it is shown ----------------------------------------------------------------------------------------


def change_operator(view: GraphView) -> None:
    view.nodes[0].op_type = "Exp"


def change_inputs(view: GraphView) -> None:
    view.nodes[1].inputs[0] = view.inputs[0]


def replace_outputs(view: GraphView) -> None:
    view.nodes[0].outputs = []


def add_attribute(view: GraphView) -> None:
    view.nodes[0].attributes["alpha"] = Attribute(AttributeKind.FLOAT, 3.0)


def rename_value(view: GraphView) -> None:
    view.inputs[0].name = "other"


def change_type(view: GraphView) -> None:
    view.inputs[0].type = None


CHANGES = [change_operator, change_inputs, replace_outputs, add_attribute, rename_value, change_type]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("when", ["capability", "compile"])
def test_a_provider_that_changes_the_model_is_blamed_and_the_model_is_as_it_was(
    monkeypatch: pytest.MonkeyPatch, change: Callable[[GraphView], None], when: str
) -> None:
    honest = getattr(StandInBackend, when)

    def meddling(self: StandInBackend, given: Any) -> Any:
        answer = honest(self, given)
        change(given if isinstance(given, GraphView) else given[0])
        return answer

    monkeypatch.setattr(StandInBackend, when, meddling)
    with Session(chain("Neg", "Abs"), devices=["odd"], registry=registry_of(make_provider("odd"))) as session:
        np.testing.assert_array_equal(session.run({"x": X})["y"], RIGHT)
        declined = [node.declined["odd:0"] for node in session.explain().nodes]
    assert all("changed" in reason and "only look at" in reason for reason in declined)


def test_nested_graphs_are_watched_too(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = StandInBackend.capability

    def meddling(self: StandInBackend, view: GraphView) -> Capability:
        for node in view.nodes:
            for graph in node.subgraphs():
                graph.nodes.clear()
        return honest(self, view)

    branches = {
        name: model([op(kind, ["x"], ["r"])], [], [tensor("r", [1, 4])]).graph
        for name, kind in (("then_branch", "Neg"), ("else_branch", "Abs"))
    }
    nodes = [op("If", ["c"], ["z"], **branches), op("Neg", ["z"], ["y"])]
    whole = model(nodes, [tensor("x", [1, 4]), tensor("c", [], 9)], [tensor("y", [1, 4])])
    monkeypatch.setattr(StandInBackend, "capability", meddling)
    with Session(whole, devices=["odd"], registry=registry_of(make_provider("odd"))) as session:
        for condition, expected in ((True, X), (False, -np.abs(X))):
            np.testing.assert_array_equal(session.run({"x": X, "c": np.array(condition)})["y"], expected)


def test_nodes_that_it_was_not_shown_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def foreign(self: StandInBackend, view: GraphView) -> Capability:
        from mace_core.graph import Node

        return Capability([Claim((Node("Neg", [], [], name="mine"),))])

    monkeypatch.setattr(StandInBackend, "capability", foreign)
    with Session(chain("Neg", "Abs"), devices=["odd"], registry=registry_of(make_provider("odd"))) as session:
        np.testing.assert_array_equal(session.run({"x": X})["y"], RIGHT)


# --- never coming back ------------------------------------------------------------------------------------------------


@pytest.fixture
def released() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def hanging(released: threading.Event) -> type[StandInProvider]:
    def probe(self: StandInProvider) -> ProbeResult:
        released.wait(LONG * 3)
        return StandInProvider.probe(self)

    return make_provider("slow", probe=probe)


def test_a_probe_that_hangs_costs_its_devices_and_not_the_session(
    monkeypatch: pytest.MonkeyPatch, released: threading.Event
) -> None:
    monkeypatch.setenv("MACE_FAULT_LIMITS", "probe_seconds=0.2")
    registry = registry_of(hanging(released), make_provider("odd"))
    with Session(chain("Neg", "Abs"), registry=registry) as session:
        np.testing.assert_array_equal(session.run({"x": X})["y"], RIGHT)
        assert set(session.explain().nodes_per_device) == {"odd:0"}
    found = inventory(registry, refresh=True)
    assert "has been looking for its devices" in found.missing["slow"][0].reason
    with pytest.raises(MaceError, match=r"has been looking for its devices .* MACE_DISABLE_PLUGINS=slow"):
        Session(chain("Neg"), devices=["slow"], registry=registry).run({"x": X})
    released.set()
    deadline = threading.Event()
    for _ in range(600):  # it is used again once it has come back
        if not inventory(registry, refresh=True).missing.get("slow"):
            break
        deadline.wait(0.1)
    with Session(chain("Neg", "Abs"), devices=["slow"], registry=registry) as session:
        np.testing.assert_array_equal(session.run({"x": X})["y"], RIGHT)


def test_the_reason_tells_what_to_do(monkeypatch: pytest.MonkeyPatch, released: threading.Event) -> None:
    monkeypatch.setenv("MACE_FAULT_LIMITS", "probe_seconds=0.1")
    found = inventory_function(registry_of(hanging(released)), refresh=True)
    (missing,) = found.missing["slow"]
    for words in ("given up on", "after 0.1 s", "probe_seconds in MACE_FAULT_LIMITS", "MACE_DISABLE_PLUGINS=slow"):
        assert words in missing.reason


def test_a_device_that_hangs_when_it_is_opened_costs_itself_and_not_the_session(released: threading.Event) -> None:
    closed = threading.Event()

    class Watched(StandInBackend):
        def close(self) -> None:
            closed.set()
            super().close()

    def opened(self: StandInProvider, device: Device, options: Mapping[str, object]) -> StandInBackend:
        released.wait(LONG * 3)
        return Watched(type(self), device)

    registry = registry_of(make_provider("alow", open=opened), make_provider("odd"))
    with Session(chain("Neg", "Abs"), registry=registry, faults=FaultLimits(open_seconds=0.2)) as session:
        np.testing.assert_array_equal(session.run({"x": X})["y"], RIGHT)
        found = session.explain()
    assert set(found.nodes_per_device) == {"odd:0"}
    assert "it could not be opened: it had not come back after 0.2 s" in found.refused["alow:0"]
    assert "MACE_DISABLE_PLUGINS=alow" in found.refused["alow:0"]
    with pytest.raises(MaceError, match=r"has been opening a device for .* MACE_DISABLE_PLUGINS=alow"):
        Session(chain("Neg"), devices=["alow"], registry=registry).run({"x": X})
    released.set()
    assert closed.wait(LONG), "what came too late is closed"


# --- one call at a time -----------------------------------------------------------------------------------------------


def test_probe_and_open_are_never_called_twice_at_once() -> None:
    inside: list[str] = []
    most: list[int] = []
    lock = threading.Lock()
    wait = threading.Event()

    def watched(what: str, result: Callable[[StandInProvider], Any]) -> Callable[..., Any]:
        def method(self: StandInProvider, *arguments: Any) -> Any:
            with lock:
                inside.append(what)
                most.append(len(inside))
            wait.wait(0.02)
            with lock:
                inside.remove(what)
            return result(self, *arguments)

        return method

    provider = make_provider(
        "odd",
        probe=watched("probe", StandInProvider.probe),
        open=watched("open", StandInProvider.open),
        probe_with=watched("probe_with", lambda self, options: StandInProvider.probe(self)),
        probe_options=frozenset({"speed"}),
    )
    registry = registry_of(provider)
    failures: list[BaseException] = []

    def use(number: int) -> None:
        try:
            inventory(registry, refresh=True)
            options = {"odd": {"speed": 1}} if number % 2 else None
            with Session(chain("Neg", "Abs"), devices=["odd"], registry=registry, options=options) as session:
                session.run({"x": X})
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=use, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONG)
    assert not failures
    assert len(most) > 12
    assert max(most) == 1


def test_words_of_errors() -> None:
    assert describe_error(ValueError("two\nlines")) == "ValueError: two lines"
    assert describe_error(KeyError()) == "KeyError"
    assert "cannot be shown" in describe_error(UnspeakableError())
    assert "cannot be shown" in describe_error(Deadly())
