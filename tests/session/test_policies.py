"""Policies: devices in an order, or chosen by what a placement will cost."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from scheduler_models import PRODUCTS_INPUT as X
from scheduler_models import products
from scheduler_stand_ins import StandInBackend, make_provider, registry_of

from mace_core import Session
from mace_core.calibration import calibrate
from mace_core.errors import PluginError, UsageError
from mace_core.policies import Choice, Policy, Problem, choice_of
from mace_core.provider import Backend, Cost, Device, hookimpl, hooks
from mace_core.provider.inventory import find_device
from mace_core.scheduler.costs import measuring
from mace_core.scheduler.costs.rates import Rates, WorkKind
from mace_core.scheduler.placing.problem import Link
from mace_core.scheduler.planning import device_rates
from mace_core.scheduler.planning.policy import LATENCY
from mace_core.tensor import DType, TensorType

SLOW = Rates(launch=1e-3, node=1e-3, byte=1e-7, mac=dict.fromkeys(WorkKind, 1e-7))
QUICK = Rates(launch=1e-6, node=1e-7, byte=1e-11, mac=dict.fromkeys(WorkKind, 1e-13), to_device=Link(1e-6, 1e-11))


@pytest.fixture(autouse=True)
def own_rates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No test sees what another one measured."""
    monkeypatch.setenv("MACE_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(device_rates, "_known", {})
    yield


def known(monkeypatch: pytest.MonkeyPatch, rates: dict[str, Rates]) -> None:
    """Rates that nothing measured, so that the choice between two devices is known beforehand."""
    if "opencl:0" in rates:
        find_device("opencl:0")  # a machine without one skips the test
    monkeypatch.setattr(device_rates, "rates_of", lambda device, open_graph: rates.get(device.name))


@pytest.mark.parametrize(("cpu", "opencl", "used"), [(SLOW, QUICK, "opencl:0"), (QUICK, SLOW, "cpu:0")])
def test_latency_takes_the_device_that_costs_less(
    monkeypatch: pytest.MonkeyPatch, cpu: Rates, opencl: Rates, used: str
) -> None:
    known(monkeypatch, {"cpu:0": cpu, "opencl:0": opencl})
    with Session(products(), devices=["cpu", "opencl:0"]) as plain:
        expected = plain.run({"x": X})["y"]
    with Session(products(), devices=["cpu", "opencl:0"], policy="latency") as session:
        assert {part.device for part in session.explain().partitions} == {used}
        assert "least latency by the policy 'latency': predicted" in session.explain().nodes[0].reason
        np.testing.assert_allclose(session.run({"x": X})["y"], expected, rtol=1e-4, atol=1e-5)


COSTS = {
    "latency": (Cost(seconds=1e-3), Cost(seconds=1e-6)),
    "power": (Cost(seconds=1e-6, joules=1e-2), Cost(seconds=1e-3, joules=1e-5)),
}
"""By policy what two providers state of the whole model, the second one the less."""


@pytest.mark.parametrize("policy", COSTS)
@pytest.mark.parametrize("turned", [False, True])
def test_what_providers_state_of_their_claims_goes_over_the_estimate(
    monkeypatch: pytest.MonkeyPatch, policy: str, turned: bool
) -> None:
    known(monkeypatch, {"a:0": QUICK, "b:0": QUICK})
    costs = COSTS[policy][::-1] if turned else COSTS[policy]
    providers = [make_provider(name, claim_cost=cost) for name, cost in zip("ab", costs, strict=True)]
    with Session(products(), devices=["a", "b"], policy=policy, registry=registry_of(*providers)) as session:
        assert {part.device for part in session.explain().partitions} == {"a:0" if turned else "b:0"}


def test_a_device_that_refuses_the_cases_of_calibration_is_taken_at_its_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    odd = make_provider("odd", claims={"Relu"})
    monkeypatch.setattr(StandInBackend, "measure_peak", lambda self, seconds: 2e9)
    found = calibrate(["odd"], registry=registry_of(odd))["odd:0"]
    assert isinstance(found, Rates)
    assert found.mac[WorkKind.MATMUL] == pytest.approx(0.5e-9)
    assert "peak" in found.source


def test_devices_that_are_named_are_taken_in_their_order() -> None:
    with Session(products(), devices=["opencl:0", "cpu"]) as session:
        assert {part.device for part in session.explain().partitions} == {"opencl:0"}


def test_a_policy_may_leave_devices_out() -> None:
    with Session(products(), devices=["hexagon:v75", "cpu"], policy="cpu_only") as session:
        assert {part.device for part in session.explain().partitions} == {"cpu:0"}


def test_a_pin_goes_over_a_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    known(monkeypatch, {"cpu:0": QUICK, "opencl:0": SLOW})
    pins = {"relu": "opencl:0"}
    with Session(products(), devices=["cpu", "opencl:0"], policy="latency", pins=pins) as session:
        where = {node.node: node.device for node in session.explain().nodes}
    assert where == {"first": "cpu:0", "relu": "opencl:0", "second": "cpu:0"}


def test_a_policy_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match="there is no policy 'fastest'; there are order, latency, throughput"):
        Session(products(), policy="fastest")


@pytest.mark.parametrize("name", ["cpu:0", pytest.param("opencl:0", marks=pytest.mark.full)])
def test_calibration_measures_a_device_and_keeps_the_rates(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    few = [WorkKind.POINTWISE]  # a device that compiles each graph takes seconds for all of them
    if name != "cpu:0":
        few.append(WorkKind.INTEGER)
    monkeypatch.setattr(measuring, "_CASES", {kind: measuring._CASES[kind][:1] for kind in few})
    rates = calibrate([name], seconds=0.01)[name]
    assert isinstance(rates, Rates)
    assert set(rates.mac) == set(few) and 0 <= rates.fused <= 1
    borders = {rates.to_device, rates.from_device} - {Link()}  # on a busy machine one way may drown in noise
    assert bool(borders) == (name != "cpu:0")
    device_rates._known.clear()  # another process
    with Session(products(), devices=[name, "reference"]) as session:
        assert session._pool.rates_of(session._pool.devices[0]) == rates


@pytest.mark.parametrize(
    ("policy", "given", "opened_with"),
    [
        ("power", {}, {"clocks": "low"}),
        ("power", {"odd": {"clocks": "high"}}, {"clocks": "high"}),
        ("power", {"odd": {"other": 1}}, {"clocks": "low", "other": 1}),
        ("throughput", {}, {}),
        (None, {}, {}),
    ],
)
def test_a_policy_sets_options_that_the_user_does_not(
    monkeypatch: pytest.MonkeyPatch, policy: str | None, given: dict[str, dict[str, object]], opened_with: object
) -> None:
    from scheduler_stand_ins import StandInProvider, make_provider, registry_of

    heard: list[object] = []
    original = StandInProvider.open

    def open_(self: StandInProvider, device: Device, options: Mapping[str, object]) -> Backend:
        heard.append(dict(options))
        return original(self, device, {})

    monkeypatch.setattr(StandInProvider, "open", open_)
    monkeypatch.setattr(StandInProvider, "options", {"clocks": "How high.", "other": "Something."})
    monkeypatch.setattr(StandInProvider, "policy_options", {"power": {"clocks": "low"}})
    registry = registry_of(make_provider("odd"))
    with Session(products(), devices=["odd"], policy=policy, options=given, registry=registry) as session:
        session.run({"x": X})
    assert heard == [opened_with]


class Alternating(Policy):
    """Units by turns on the devices that run them."""

    def decide(self, problem: Problem, home: int) -> Choice:
        return choice_of(problem, [(runs := problem.can_run(unit))[unit % len(runs)] for unit in range(problem.units)])


def test_an_application_decides_by_a_policy_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    known(monkeypatch, {"cpu:0": QUICK, "opencl:0": SLOW})
    with Session(products(), devices=["cpu", "opencl:0"], policy=Alternating("by turns")) as session:
        where = [node.device for node in session.explain().nodes]
        assert "by the policy 'by turns'" in session.explain().nodes[0].reason
        result = session.run({"x": X})["y"]
    assert where == ["cpu:0", "opencl:0", "cpu:0"]
    with Session(products(), devices=["cpu"]) as plain:
        np.testing.assert_allclose(result, plain.run({"x": X})["y"], rtol=1e-4, atol=1e-5)


def test_an_own_policy_is_asked_by_each_session_for_shapes_that_vary_too(monkeypatch: pytest.MonkeyPatch) -> None:
    known(monkeypatch, {"cpu:0": QUICK, "opencl:0": SLOW})
    asked = []

    class Asked(Policy):
        def decide(self, problem: Problem, home: int) -> Choice:
            asked.append(problem)
            return choice_of(problem, [0] * problem.units)

    counts = []
    for _ in range(2):
        graph = products()
        graph.inputs[0].type = TensorType(DType.FLOAT32, ("rows", 8))
        for node in graph.nodes:
            node.outputs[0].type = None  # type: ignore[union-attr]
        with Session(graph, devices=["cpu", "opencl:0"], policy=Asked("asked")) as session:
            for rows in (4, 5, 6):
                session.run({"x": np.ones((rows, 8), np.float32)})
        counts.append(len(asked))
    assert counts[0] > 0 and counts[1] == 2 * counts[0]


class Nonsense(Policy):
    def decide(self, problem: Problem, home: int) -> Choice:
        good = Policy.decide(LATENCY, problem, home)
        return dataclasses.replace(good, best=dataclasses.replace(good.best, assignment=(7,) * problem.units))


def test_a_policy_that_decides_nonsense_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    known(monkeypatch, {"cpu:0": QUICK, "opencl:0": SLOW})
    with pytest.raises(UsageError, match="policy 'odd' has node 'first' on device number 7, which does not run it"):
        Session(products(), devices=["cpu", "opencl:0"], policy=Nonsense("odd"))


@pytest.fixture
def added() -> Iterator[list[object]]:
    """The policies of a plugin."""
    found: list[object] = []

    class Plugin:
        @hookimpl
        def mace_register_policies(self) -> list[object]:
            return found

    hooks.default_hooks().register(Plugin(), "policies of a test")
    yield found
    hooks.default_hooks().unregister("policies of a test")


def test_a_plugin_adds_a_policy_by_name(monkeypatch: pytest.MonkeyPatch, added: list[object]) -> None:
    added.append(Alternating("by_turns"))
    known(monkeypatch, {"cpu:0": QUICK, "opencl:0": SLOW})
    with Session(products(), devices=["cpu", "opencl:0"], policy="by_turns") as session:
        assert [node.device for node in session.explain().nodes] == ["cpu:0", "opencl:0", "cpu:0"]
    with pytest.raises(UsageError, match=r"there is no policy 'fastest'; .*cpu_only, by_turns"):
        Session(products(), policy="fastest")


@pytest.mark.parametrize(("policy", "what"), [("latency", "is not a Policy"), (Policy("latency"), "which there is")])
def test_a_plugin_with_policies_that_are_none_is_named(added: list[object], policy: object, what: str) -> None:
    added.append(policy)
    with pytest.raises(PluginError, match=what):
        Session(products(), policy="of the plugin")


@pytest.mark.parametrize(("watts", "used"), [((5.0, 50.0), "cpu:0"), ((50.0, 0.5), "opencl:0")])
def test_power_takes_the_device_that_spends_less(
    monkeypatch: pytest.MonkeyPatch, watts: tuple[float, float], used: str
) -> None:
    rates = {
        name: dataclasses.replace(QUICK, watts=each) for name, each in zip(("cpu:0", "opencl:0"), watts, strict=True)
    }
    known(monkeypatch, rates)
    with Session(products(), devices=["cpu", "opencl:0"], policy="power") as session:
        assert {part.device for part in session.explain().partitions} == {used}
        assert "least energy by the policy 'power'" in session.explain().nodes[0].reason


def test_power_says_where_nobody_knows_the_energy(monkeypatch: pytest.MonkeyPatch) -> None:
    known(monkeypatch, {"cpu:0": dataclasses.replace(QUICK, watts=5.0), "opencl:0": SLOW})
    with Session(products(), devices=["cpu", "opencl:0"], policy="power") as session:
        assert "nobody tells the energy of opencl:0: time decides instead" in session.explain().choices[0]
        assert {part.device for part in session.explain().partitions} == {"cpu:0"}
