"""Independent branches on different devices run at the same time, and no order in which they do changes a result."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scheduler_models import chain, model, op, tensor
from scheduler_stand_ins import StandInBackend, make_provider, registry_of

from mace_core.errors import OutOfMemoryError, ProviderError
from mace_core.faults import FaultLimits
from mace_core.scheduler.planning.plan import RunStep, StagePlan, Storage
from mace_core.scheduler.planning.steps import owner, reads, writes
from mace_core.scheduler.profile import Profile
from mace_core.scheduler.running import helpers
from mace_core.scheduler.running.parallel import ParallelInstance
from mace_core.session import Session
from mace_core.tensor import MemoryKind

X = np.array([[-2.0, -1.0, 1.0, 3.0], [4.0, -5.0, 6.0, 0.5]], np.float32)

MEMORIES = [MemoryKind.HOST, MemoryKind.PINNED, MemoryKind.DEVICE]


def branches() -> Any:
    """Two branches, and what joins them."""
    nodes = [op("Neg", ["x"], ["a"]), op("Abs", ["x"], ["b"]), op("Add", ["a", "b"], ["y"])]
    return model(nodes, [tensor("x", [2, 4])], [tensor("y", [2, 4])])


def plan_of(session: Session) -> StagePlan:
    found = session._runner.last_plan
    assert found is not None
    return found.plan


def meeting(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Executions wait until so many of them are at work: they pass only where that many run at a time."""
    barrier = threading.Barrier(count, timeout=20)
    monkeypatch.setattr(StandInBackend, "before_run", lambda self: barrier.wait() and None)


@pytest.mark.parametrize("memory", MEMORIES)
@pytest.mark.parametrize("has_queue", [False, True])
def test_branches_on_two_devices_run_at_the_same_time(
    memory: MemoryKind, has_queue: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = make_provider("left", memory=memory, has_queue=has_queue, claims={"Neg"})
    right = make_provider("right", memory=memory, has_queue=has_queue, claims={"Abs"})
    with Session(branches(), devices=["left", "right"], registry=registry_of(left, right)) as session:
        meeting(monkeypatch, 2)
        for profile in (None, Profile(), None):  # being looked at changes nothing
            found = session.run({"x": X}, profile=profile)["y"]
            np.testing.assert_array_equal(found, np.abs(X) - X)
        assert plan_of(session).tracks is not None


def test_three_devices_and_the_host_run_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["Neg", "Abs", "Relu", "Exp"]
    nodes = [op(kind, ["x"], [kind]) for kind in names] + [op("Sum", names, ["y"])]
    providers = [make_provider(f"d{i}", memory=MEMORIES[i % 3], claims={kind}) for i, kind in enumerate(names)]
    built = model(nodes, [tensor("x", [2, 4])], [tensor("y", [2, 4])])
    with Session(built, devices=[p.name for p in providers], registry=registry_of(*providers)) as session:
        meeting(monkeypatch, 4)
        for _ in range(2):
            expected = -X + np.abs(X) + np.maximum(X, 0) + np.exp(X)
            np.testing.assert_allclose(session.run({"x": X})["y"], expected, rtol=1e-6)


@pytest.mark.parametrize("built", [chain("Neg", "Abs", "Neg"), chain("Neg", "Neg"), chain("Abs")])
def test_a_chain_and_a_single_partition_have_no_further_threads(built: Any) -> None:
    left = make_provider("left", memory=MemoryKind.DEVICE, has_queue=True, claims={"Neg"})
    right = make_provider("right", claims={"Abs"})
    with Session(built, devices=["left", "right"], registry=registry_of(left, right)) as session:
        before = threading.active_count()
        session.run({"x": X})
        assert plan_of(session).tracks is None
        assert threading.active_count() <= before  # those of other tests end meanwhile


@st.composite
def shared_graphs(draw: st.DrawFn) -> tuple[Any, list[set[str]], list[MemoryKind], list[bool]]:
    """A random graph of elementwise ops, shared among three devices."""
    unary, binary = ["Neg", "Abs", "Relu"], ["Add", "Sub", "Max"]
    nodes, names = [], ["x"]
    unread: dict[str, None] = {}
    for index in range(draw(st.integers(4, 16))):
        kind = draw(st.sampled_from(unary + binary))
        inputs = [draw(st.sampled_from(names)) for _ in range(2 if kind in binary else 1)]
        names.append(f"v{index}")
        nodes.append(op(kind, inputs, [names[-1]]))
        unread = {name: None for name in (*unread, names[-1]) if name not in inputs}
    outputs = list(unread)
    kinds = draw(st.permutations(unary + binary))
    claims = [set(kinds[:2]), set(kinds[2:4]), set(kinds[4:])]
    memories = [draw(st.sampled_from([MemoryKind.HOST, *MEMORIES])) for _ in range(3)]
    queues = [draw(st.booleans()) for _ in range(3)]
    built = model(nodes, [tensor("x", [2, 4])], [tensor(name, [2, 4]) for name in outputs])
    return built, claims, memories, queues


def opened(problem: tuple[Any, list[set[str]], list[MemoryKind], list[bool]]) -> Session:
    built, claims, memories, queues = problem
    providers = [
        make_provider(f"d{i}", claims=claims[i], memory=memories[i], has_queue=queues[i], reports_spans=False)
        for i in range(3)
    ]
    return Session(built, devices=[p.name for p in providers], registry=registry_of(*providers), optimize=False)


@pytest.fixture
def slow_steps(monkeypatch: pytest.MonkeyPatch) -> Iterator[random.Random]:
    """Steps of parallel runs begin after a random while."""
    dice = random.Random(0)
    execute = ParallelInstance._execute

    def late(self: ParallelInstance, *arguments: Any) -> None:
        time.sleep(dice.choice((0, 0, 0.0003, 0.001)))
        execute(self, *arguments)

    monkeypatch.setattr(ParallelInstance, "_execute", late)
    yield dice


LAW = settings(max_examples=40, deadline=None)
PLANNING_LAW = settings(max_examples=150, deadline=None)  # nothing runs


def test_any_interleaving_gives_the_result_of_the_reference(slow_steps: random.Random) -> None:
    parallel = 0

    @LAW
    @given(shared_graphs(), st.integers(0, 1000))
    def law(problem: tuple[Any, list[set[str]], list[MemoryKind], list[bool]], seed: int) -> None:
        nonlocal parallel
        slow_steps.seed(seed)
        registry = registry_of()
        with Session(problem[0], devices=["reference"], registry=registry, optimize=False) as session:
            expected = session.run({"x": X})
        with opened(problem) as session:
            for _ in range(3):
                found = session.run({"x": X})
                for name, value in expected.items():
                    np.testing.assert_array_equal(found[name], value)
            parallel += plan_of(session).tracks is not None

    law()
    assert parallel > 10, "hardly any plan had anything to run at the same time"


def places(plan: StagePlan) -> dict[tuple[str, int], tuple[str, range]]:
    """Where registers and workspaces lie in arenas."""
    found = {}
    for index, register in enumerate(plan.registers):
        if register.storage is Storage.ARENA:
            found["register", index] = register.location, range(register.offset, register.offset + register.nbytes)
    for number, step in enumerate(plan.steps):
        if isinstance(step, RunStep) and step.workspace_bytes:
            begin = step.workspace_offset
            found["workspace", number] = step.location, range(begin, begin + step.workspace_bytes)
    return found


def run_in_some_order(plan: StagePlan, dice: random.Random) -> None:
    """Steps, in a random order that the tracks allow, write who they are into what is theirs, and look at what they
    read; each one's memory is its own from its beginning to its end, and several are under way at a time."""
    assert plan.tracks is not None
    where = places(plan)
    memory: dict[tuple[str, int], Any] = {}

    def fill(place: tuple[str, int], content: Any) -> None:
        if place in where:
            location, taken = where[place]
            memory.update(((location, byte), content) for byte in taken)

    def check(register: int) -> None:
        if ("register", register) in where:
            location, taken = where["register", register]
            assert {memory.get((location, byte)) for byte in taken} <= {("register", register)}

    waits = {n: {e.source for e in plan.tracks.edges if e.target == n} for n in range(len(plan.steps))}
    left = [list(steps) for steps in plan.tracks.steps]
    under_way: list[int] = []
    done: set[int] = set()
    while any(left) or under_way:
        busy = {track for track, steps in enumerate(plan.tracks.steps) if set(steps) & set(under_way)}
        ready = [t for t, steps in enumerate(left) if steps and t not in busy and waits[steps[0]] <= done]
        if ready and (not under_way or dice.random() < 0.6):
            number = left[dice.choice(ready)].pop(0)
            under_way.append(number)
            fill(("workspace", number), ("workspace", number))
            for register in writes(plan.steps[number]):
                fill(("register", owner(register, plan.registers)), ("register", owner(register, plan.registers)))
        else:
            number = under_way.pop(dice.randrange(len(under_way)))
            for register in reads(plan.steps[number]):
                check(owner(register, plan.registers))
            done.add(number)
    for register in plan.results:
        check(owner(register, plan.registers))


def test_what_may_be_needed_at_the_same_time_lies_apart() -> None:
    parallel = 0

    @PLANNING_LAW
    @given(shared_graphs(), st.integers(0, 1000))
    def law(problem: tuple[Any, list[set[str]], list[MemoryKind], list[bool]], seed: int) -> None:
        nonlocal parallel
        with opened(problem) as session:
            plan = next(session._runners.plans({v: v.type for v in session._graph.inputs}))
            if plan.plan.tracks is not None:
                parallel += 1
                for number in range(20):
                    run_in_some_order(plan.plan, random.Random(seed + number))
            plan.release()

    law()
    assert parallel > 10


UNMOVED = FaultLimits(move=False)


@pytest.mark.parametrize("faulty", ["left", "right"])
def test_a_failure_on_one_device_ends_the_run_and_leaves_the_session_usable(faulty: str) -> None:
    providers = {
        "left": make_provider("left", memory=MemoryKind.DEVICE, has_queue=True, claims={"Neg"}),
        "right": make_provider("right", claims={"Abs"}),
    }
    registry = registry_of(*providers.values())
    with Session(branches(), devices=["left", "right"], registry=registry, faults=UNMOVED) as session:
        faults = providers[faulty].faults
        for _ in range(3):
            faults += [OutOfMemoryError("no room for 3 TB")] * 3  # it is tried again
            with pytest.raises(OutOfMemoryError, match="3 TB"):
                session.run({"x": X})
            faults.clear()
            np.testing.assert_array_equal(session.run({"x": X})["y"], np.abs(X) - X)
        assert plan_of(session).tracks is not None


@pytest.mark.parametrize("faulty", [("left",), ("right",), ("left", "right")])
def test_where_devices_fail_the_run_goes_on_elsewhere(faulty: tuple[str, ...]) -> None:
    providers = {name: make_provider(name, claims={kind}) for name, kind in (("left", "Neg"), ("right", "Abs"))}
    with Session(branches(), devices=["left", "right"], registry=registry_of(*providers.values())) as session:
        session.run({"x": X})
        for name in faulty:
            providers[name].faults += [ProviderError(f"{name} is broken")]
        for _ in range(3):
            np.testing.assert_array_equal(session.run({"x": X})["y"], np.abs(X) - X)


def test_where_no_thread_can_be_started_the_run_fails_and_the_next_one_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    left, right = make_provider("left", claims={"Neg"}), make_provider("right", claims={"Abs"})
    with Session(branches(), devices=["left", "right"], registry=registry_of(left, right)) as session:
        session.run({"x": X})
        with monkeypatch.context() as patch:
            patch.setattr(helpers, "_idle", [])

            def refuse(self: threading.Thread) -> None:
                raise RuntimeError("can't start new thread")

            patch.setattr(threading.Thread, "start", refuse)
            with pytest.raises(RuntimeError, match="new thread"):
                session.run({"x": X})
        np.testing.assert_array_equal(session.run({"x": X})["y"], np.abs(X) - X)


def test_runs_from_many_threads_do_not_mix_up(slow_steps: random.Random) -> None:
    left = make_provider("left", memory=MemoryKind.DEVICE, has_queue=True, claims={"Neg"})
    right = make_provider("right", memory=MemoryKind.PINNED, claims={"Abs"})
    wrong: list[float] = []
    with Session(branches(), devices=["left", "right"], registry=registry_of(left, right)) as session:

        def work(scale: float) -> None:
            for _ in range(10):
                if not np.array_equal(session.run({"x": X * scale})["y"], np.abs(X * scale) - X * scale):
                    wrong.append(scale)

        threads = [threading.Thread(target=work, args=(scale,)) for scale in (1.0, 2.0, 3.0)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


def test_idle_threads_are_used_again() -> None:
    left, right = make_provider("left", claims={"Neg"}), make_provider("right", claims={"Abs"})
    with Session(branches(), devices=["left", "right"], registry=registry_of(left, right)) as session:
        session.run({"x": X})
        before = threading.active_count()
        for _ in range(20):
            session.run({"x": X})
        assert threading.active_count() <= before + 1
