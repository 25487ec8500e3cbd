"""Laws of placement: whatever a policy decides, the results are the same and partitions are convex; a slow virtual
device changes nothing."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scheduler_stand_ins import make_provider, registry_of

from mace_core import Session
from mace_core.graph import Graph, Node, Value
from mace_core.policies import Choice, Policy, Problem, choice_of, choose
from mace_core.provider import Cost
from mace_core.scheduler.costs.rates import Rates, WorkKind
from mace_core.scheduler.placing.problem import Link
from mace_core.scheduler.planning import device_rates
from mace_core.scheduler.planning.devices import SessionDevice
from mace_core.tensor import DType, Tensor, TensorType

SHAPE = (2, 4)


@pytest.fixture(autouse=True)
def made_up_rates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing is measured here."""
    border = Link(1e-6, 1e-10)
    rates = Rates(1e-6, 1e-6, 1e-10, dict.fromkeys(WorkKind, 1e-10), border, border, watts=1.0)
    monkeypatch.setattr(device_rates, "rates_of", lambda device, open_graph: rates)
    yield


class AtRandom(Policy):
    """Any placement that there is."""

    def decide(self, problem: Problem, home: int) -> Choice:
        rng = random.Random(self.name)
        return choice_of(problem, [rng.choice(problem.can_run(unit)) for unit in range(problem.units)])


def network(seed: int, count: int) -> Graph:
    """Operators that both devices have, reading anything before them."""
    rng = random.Random(seed)
    graph = Graph("random")
    graph.opset_imports[""] = 17
    values = [Value("x", TensorType(DType.FLOAT32, SHAPE))]
    weight = Value("w", constant=Tensor.from_numpy(np.eye(4, dtype=np.float32)[::-1].copy()))
    graph.initializers["w"] = weight
    graph.inputs = values[:1]
    for number in range(count):
        op = rng.choice(["Relu", "Add", "Mul", "MatMul", "Neg", "Sigmoid"])
        reads = [rng.choice(values)]
        if op == "MatMul":
            reads.append(weight)
        elif op in ("Add", "Mul"):
            reads.append(rng.choice(values))
        values.append(Value(f"v{number}", TensorType(DType.FLOAT32, SHAPE)))
        graph.nodes.append(Node(op, reads, [values[-1]], name=f"n{number}"))
    read = {value for node in graph.nodes for value in node.inputs}
    graph.outputs = [value for value in values[1:] if value not in read]
    return graph


X = np.random.default_rng(0).standard_normal(SHAPE, np.float32)
POLICIES = ("latency", "throughput", "power", "order", "prefer_gpu", "cpu_only")


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 10**6), st.integers(1, 7), st.one_of(st.sampled_from(POLICIES), st.integers(0, 10**6)))
def test_any_policy_gives_the_same_results_in_convex_partitions(seed: int, count: int, policy: str | int) -> None:
    graph = network(seed, count)
    with Session(network(seed, count), devices=["cpu"], cache=False) as plain:
        expected = plain.run({"x": X})
    chosen = policy if isinstance(policy, str) else AtRandom(str(policy))
    with Session(graph, devices=["cpu", "acme:sim0", "reference"], policy=chosen, cache=False) as session:
        found = session.run({"x": X})
        explanation = session.explain()
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-4, atol=1e-5)
    part_of = {name: number for number, part in enumerate(explanation.partitions) for name in part.nodes}
    made_by = {value: node for node in graph.nodes for value in node.outputs}
    for node in graph.nodes:  # partitions run in order, so that no way leads out of one and back
        for value in node.inputs:
            if value in made_by and node.name in part_of and made_by[value].name in part_of:
                assert part_of[made_by[value].name] <= part_of[node.name]


def test_a_virtual_device_costs_nothing_unless_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where none is named, a slow virtual device is not opened, not asked, not measured and not planned on, so that
    there is nothing by which it could make a session slower than the CPU alone."""
    measured: list[str] = []
    planned: list[tuple[str, ...]] = []
    rates = Rates(1e-6, 1e-6, 1e-10, dict.fromkeys(WorkKind, 1e-10))

    def rates_of(device: SessionDevice, open_graph: object) -> Rates:
        measured.append(device.name)
        return rates

    def watched(problem: Problem, *args: object, **given: object) -> Choice:
        planned.append(problem.devices)
        return choose(problem, *args, **given)  # type: ignore[arg-type]

    monkeypatch.setattr(device_rates, "rates_of", rates_of)
    monkeypatch.setattr("mace_core.scheduler.placing.choose.choose", watched)
    ghost = make_provider("ghost", is_virtual=True, claim_cost=Cost(seconds=1e-9))
    real = [make_provider(name) for name in ("one", "two")]
    registry = registry_of(ghost, *real)
    with Session(network(1, 5), registry=registry) as session:
        session.run({"x": X})
        assert session.explain().virtual == {}
    assert ghost.opened == []
    assert "ghost:0" not in measured and not any("ghost:0" in devices for devices in planned)
    assert any(provider.opened for provider in real) and planned  # costs did decide
    with Session(network(1, 5), devices=["ghost:0", "one"], policy="latency", registry=registry) as session:
        session.run({"x": X})
    assert len(ghost.opened) == 1 and "ghost:0" in planned[-1]
