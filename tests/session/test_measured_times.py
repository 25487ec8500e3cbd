"""Placements by cost go by what a model's partitions took in earlier sessions, and explanations tell it."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import numpy as np
import pytest
from scheduler_models import PRODUCTS_INPUT as X
from scheduler_models import products
from scheduler_stand_ins import StandInBackend, StandInProvider, make_provider, registry_of

from mace_core import Session
from mace_core.calibration import calibrate_model
from mace_core.errors import UsageError
from mace_core.provider import Device, ProbeResult
from mace_core.provider.registry import Registry
from mace_core.scheduler.costs.rates import Rates, WorkKind
from mace_core.scheduler.planning import device_rates
from mace_core.scheduler.planning.model_times import BETTER
from mace_core.scheduler.running.executor import StageInstance

SLEEP = {"swift": 0.05, "slow": 0.0}
"""What the devices really take; their rates say the opposite."""

RUNS = 8
"""As many as are timed, and the first, which does not count."""


class _Versioned(StandInProvider):
    driver = "1"

    def probe(self) -> ProbeResult:
        facts = {"driver": type(self).driver}
        return ProbeResult(devices=(Device(self.name, "0", self.kind, "stand-in", "tests", properties=facts),))


@pytest.fixture
def devices(monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """Two devices whose rates promise the opposite of what they take."""
    quick = Rates(launch=1e-6, node=1e-6, byte=1e-11, mac=dict.fromkeys(WorkKind, 1e-13))
    dear = Rates(launch=1e-3, node=1e-3, byte=1e-7, mac=dict.fromkeys(WorkKind, 1e-7))
    rates = {"swift:0": quick, "slow:0": dear}
    monkeypatch.setattr(device_rates, "rates_of", lambda device, open_graph: rates.get(device.name))
    monkeypatch.setattr(StandInBackend, "before_run", lambda self: time.sleep(SLEEP[self.device.provider]))
    monkeypatch.setattr(_Versioned, "driver", "1")
    yield new_registry()


def new_registry() -> Registry:
    providers = (make_provider("swift"), make_provider("slow"))
    return registry_of(*(type(p.__name__, (_Versioned, p), {}) for p in providers))


def opened(registry: Registry, **given: object) -> Session:
    return Session(products(), devices=["swift", "slow"], policy="latency", registry=registry, **given)  # type: ignore[arg-type]


def used(session: Session) -> set[str]:
    return {part.device for part in session.explain().partitions}


def run_often(session: Session) -> None:
    for _ in range(RUNS):
        session.run({"x": X})


def test_a_later_session_goes_by_what_the_partitions_took(devices: Registry) -> None:
    with opened(devices) as session:
        assert used(session) == {"swift:0"}
        expected = session.run({"x": X})["y"]
        run_often(session)
    with opened(devices) as session:
        assert used(session) == {"slow:0"}
        text = session.explain().choices[0]
        assert re.search(r"slow:0, [\d.]+ ms predicted in 1 partition; next best swift:0, .*, measured [\d.]+ ms", text)
        np.testing.assert_array_equal(session.run({"x": X})["y"], expected)


def test_explanations_tell_what_was_measured_after_a_run(devices: Registry) -> None:
    with opened(devices) as session:
        before = session.explain()
        assert before.partitions[0].measured_seconds is None
        assert before.choices[0].count("measured") == 1 and "not measured" in before.choices[0]
        run_often(session)
        part = session.explain().partitions[0]
        assert part.measured_seconds == pytest.approx(SLEEP["swift"], rel=1)
        assert (part.next_best, part.next_best_measured) == ("slow:0", None)
        assert part.next_best_predicted is not None and part.next_best_predicted > 3e-3
        line = next(line for line in session.explain().summary_lines() if "partition 0" in line)
        assert re.search(r"predicted [\d.e-]+ ms, measured [\d.]+ ms; next best on slow:0, .*, not measured$", line)


def test_times_hold_for_one_driver(devices: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(devices) as session:
        run_often(session)
    monkeypatch.setattr(_Versioned, "driver", "2")
    with opened(new_registry()) as session:
        assert used(session) == {"swift:0"}
        assert session.explain().partitions[0].measured_seconds is None


def test_a_session_without_the_cache_neither_keeps_nor_uses_times(devices: Registry) -> None:
    with opened(devices, cache=False) as session:
        run_often(session)
    with opened(devices) as session:
        assert used(session) == {"swift:0"}
        run_often(session)
    with opened(devices, cache=False) as session:
        assert used(session) == {"swift:0"}


def test_runs_are_ordinary_ones_once_enough_are_timed(devices: Registry) -> None:
    with opened(devices) as session:
        session.run({"x": X})
        plan = session._runner.last_plan
        assert plan is not None
        assert type(plan.shared._idle[0]) is not StageInstance
        run_often(session)
        assert [type(instance) for instance in plan.shared._idle] == [StageInstance]


def test_times_that_hardly_differ_change_nothing(devices: Registry) -> None:
    with opened(devices) as session:
        times = session._model.times
        assert times is not None
        run_often(session)
        kept = session._runner.last_plan.plan.placed.times  # type: ignore[union-attr]
        assert kept is not None
        swift = session._pool.devices[0]
        (names, seconds) = next(iter(kept.partitions(swift).items()))
        word = kept.word(session._pool.devices)
        kept.note_partitions(swift, {names: seconds * (BETTER + 0.01)})
        kept.note_partitions(swift, {names: seconds * 2})
        assert kept.word(session._pool.devices) == word
        kept.note_partitions(swift, {names: seconds / 2})
        assert kept.word(session._pool.devices) != word


def test_calibration_measures_the_runner_up_too(devices: Registry) -> None:
    found = calibrate_model(
        products(), lambda _: {"x": X}, ["swift", "slow"], policy="latency", seconds=0.01, registry=devices
    )
    by_devices = {each.devices: each for each in found}
    assert by_devices["swift:0",].measured == pytest.approx(SLEEP["swift"], rel=1)
    assert by_devices["slow:0",].is_chosen and not by_devices["swift:0",].is_chosen
    with opened(devices) as session:
        assert used(session) == {"slow:0"}
        assert "not measured" not in session.explain().choices[0]
        part = session.explain().partitions[0]
        assert part.measured_seconds is not None and part.next_best_measured is not None


def test_a_device_is_calibrated_by_itself_for_sessions_that_have_a_choice(devices: Registry) -> None:
    (only,) = calibrate_model(products(), lambda _: {"x": X}, ["swift"], seconds=0.01, registry=devices)
    assert only.devices == ("swift:0",) and only.measured == pytest.approx(SLEEP["swift"], rel=1)
    with opened(devices) as session:
        assert used(session) == {"slow:0"}


def test_calibration_needs_a_policy_that_goes_by_cost(devices: Registry) -> None:
    with pytest.raises(UsageError, match="the policy 'order' does not go by cost"):
        calibrate_model(products(), lambda _: {"x": X}, ["swift", "slow"], policy="order", registry=devices)
