"""Measures what the devices of this machine cost, ahead of the sessions that place models by cost."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mace_core.errors import MaceError, UsageError
from mace_core.graph import Graph
from mace_core.provider.registry import Registry, default_registry
from mace_core.scheduler.costs.measuring import SECONDS_A_CASE
from mace_core.scheduler.costs.rates import Rates
from mace_core.scheduler.placing.predict import predict
from mace_core.scheduler.planning.device_rates import measured
from mace_core.scheduler.planning.policy import LATENCY, Policy, policy_of
from mace_core.scheduler.planning.selection import Options, select_devices
from mace_core.session import Session

if TYPE_CHECKING:
    from mace_core.frontend.load import Model
    from mace_core.scheduler.placing.choose import Choice
    from mace_core.scheduler.placing.predict import Prediction
    from mace_core.scheduler.placing.problem import Assignment, Problem

__all__ = ["PlacementTime", "calibrate", "calibrate_model"]

_ROUNDS = 4
"""What was measured may lead to another choice, which is measured in turn; so often at most."""

_LEAST_RUNS, _MOST_RUNS = 6, 2000


def calibrate(
    devices: Sequence[str] | None = None,
    *,
    options: Options | None = None,
    seconds: float = SECONDS_A_CASE,
    registry: Registry | None = None,
    tell: Callable[[str], None] = lambda what: None,
) -> dict[str, Rates | MaceError]:
    """Measure devices by small graphs, and keep the rates in the cache for later sessions.

    Args:
        devices: their names; None: all real ones.
        options: as of `Session`: a device under other options has other rates.
        seconds: time for the runs of each graph.
        registry: where providers are found.
        tell: called with what is measured next.

    Returns:
        By qualified name the rates, or why the device could not be measured.

    Raises:
        DeviceNotFoundError, PluginError, UsageError: for devices or options that mean nothing here.
    """
    registry = registry or default_registry()
    given: Mapping[str, Mapping[str, object]] = options or {}
    found: dict[str, Rates | MaceError] = {}
    chosen = select_devices(registry, devices, options=given, strict=True, graph=Graph("calibration"))
    for device in chosen:
        own = {name: values for name, values in given.items() if name in (device.name, device.device.provider)}

        def open_graph(graph: Graph, name: str = device.name, own: Options = own) -> Session:
            return Session(graph, devices=[name], options=own, strict=True, optimize=False, registry=registry)

        def tell_case(what: str, name: str = device.name) -> None:
            tell(f"{name}: {what}")

        try:
            found[device.name] = measured(device, open_graph, seconds=seconds, tell=tell_case)
        except MaceError as error:
            found[device.name] = error
        finally:
            device.close()
    return found


@dataclass(frozen=True, slots=True)
class PlacementTime:
    """A placement of a whole model that was measured.

    Attributes:
        name: what it is: ``chosen``, ``next best``, or a known rule.
        devices: that work in it.
        partitions: how many.
        predicted: seconds of a run, before it was measured; None where there was nothing to choose.
        measured: seconds of the fastest run.
        is_chosen: it is what a session takes from now on.
    """

    name: str
    devices: tuple[str, ...]
    partitions: int
    predicted: float | None
    measured: float
    is_chosen: bool = False


def calibrate_model(
    model: Model,
    feeds: Callable[[Session], Mapping[str, Any]],
    devices: Sequence[str] | None = None,
    *,
    policy: str | Policy | None = None,
    options: Options | None = None,
    pins: Mapping[str, str] | None = None,
    strict: bool = False,
    seconds: float = 0.5,
    registry: Registry | None = None,
    tell: Callable[[str], None] = lambda what: None,
) -> list[PlacementTime]:
    """Run a model's placements, and keep what their partitions take for later sessions.

    Measured are what the policy chooses, the runner-up, and each device with all that it can run; then what the policy
    chooses with that known.  Earlier times of the same partitions are replaced.

    Args:
        model: as of `Session`; a path, or anything that can be opened several times.
        feeds: what a session of the model is run with.
        devices: to choose among; None: all real ones.
        policy: one by cost; None: ``latency``.
        options, pins, strict: as of `Session`.
        seconds: time for the runs of each placement.
        registry: where providers are found.
        tell: called with what is measured next.

    Returns:
        The placements, in the order in which they were measured.

    Raises:
        UsageError: for a policy that does not go by cost.
        MaceError: as opening and running a session does.
    """
    base = LATENCY if policy is None else policy_of(policy, named_devices=devices is not None)
    if not base.by_cost:
        raise UsageError(f"the policy '{base.name}' does not go by cost: latency, throughput and power do")
    same: dict[str, Any] = {"devices": devices, "options": options, "pins": pins, "strict": strict}
    same["registry"] = registry
    found: dict[_Placement, PlacementTime] = {}
    for _ in range(_ROUNDS):
        watch = _Watching(base.name, base.objective, base.kinds, base.only, base.partitions, base.gain, base=base)
        with Session(model, policy=watch, **same) as session:
            session.run(feeds(session))
            if not watch.seen:
                return [_only(session, feeds(session), seconds)]
        chosen = watch.placement("chosen")
        new: dict[_Placement, str] = {}
        for name, placement in watch.wanted(is_first=not found):
            if placement not in found:
                new.setdefault(placement, name)
        if not new:
            break
        for placement, name in new.items():
            tell(name)
            fixed = _Fixed(base.name, base.objective, base=base, placement=placement)
            with Session(model, policy=fixed, **same) as session:
                took = _measured(session, feeds(session), seconds)
            found[placement] = PlacementTime(name, *watch.told(placement), took)
    return [
        PlacementTime(each.name, each.devices, each.partitions, each.predicted, each.measured, placement == chosen)
        for placement, each in found.items()
    ]


_Placement = tuple["tuple[tuple[str, ...], Assignment]", ...]
"""For each part of the model that is placed by itself the names of its units, and the device of each."""


@dataclass(frozen=True, slots=True)
class _Watching(Policy):
    """Decides as another policy does, and remembers what there was to decide."""

    base: Policy = LATENCY
    seen: dict[tuple[str, ...], tuple[Problem, Choice]] = field(default_factory=dict, compare=False)

    def decide(self, problem: Problem, home: int) -> Choice:
        choice = self.base.decide(problem, home)
        self.seen[problem.names] = problem, choice
        return choice

    def wanted(self, *, is_first: bool) -> Iterator[tuple[str, _Placement]]:
        """What is to be measured, by name; the known rules too where it ``is_first``."""
        names = ["chosen", "next best"]
        if is_first:
            names += sorted({rule for _, choice in self.seen.values() for rule in choice.others if "takes all" in rule})
            names.append("home device first")
        for name in names:
            if (placement := self.placement(name)) is not None:
                yield name, placement

    def placement(self, name: str) -> _Placement | None:
        """The placement called so; parts that have none keep what is chosen.  None where no part has one."""
        found = {names: _called(name, choice) for names, (_, choice) in self.seen.items()}
        if not any(found.values()):
            return None
        return tuple(
            (names, (found[names] or choice.best).assignment) for names, (_, choice) in sorted(self.seen.items())
        )

    def told(self, placement: _Placement) -> tuple[tuple[str, ...], int, float]:
        """Its devices, the number of its partitions, and the seconds of a run."""
        devices: dict[str, None] = {}
        partitions, seconds = 0, 0.0
        for names, assignment in placement:
            problem, _ = self.seen[names]
            prediction = predict(problem, assignment)
            devices.update(dict.fromkeys(problem.devices[piece.device] for piece in prediction.pieces))
            partitions += len(prediction.pieces)
            seconds += prediction.overlapped if self.base.objective == "overlapped" else prediction.sequential
        return tuple(devices), partitions, seconds


def _called(name: str, choice: Choice) -> Prediction | None:
    if name == "chosen":
        return choice.best
    return choice.runner_up if name == "next best" else choice.others.get(name)


@dataclass(frozen=True, slots=True)
class _Fixed(Policy):
    """Decides as it is told."""

    base: Policy = LATENCY
    placement: _Placement = ()

    def decide(self, problem: Problem, home: int) -> Choice:
        from mace_core.policies import choice_of

        assignment = dict(self.placement).get(problem.names)
        if assignment is None:  # a part that only this placement has
            return self.base.decide(problem, home)
        return choice_of(problem, assignment)


def _only(session: Session, feeds: Mapping[str, Any], seconds: float) -> PlacementTime:
    """Where there is nothing to choose."""
    parts = session.explain().partitions
    devices = tuple(dict.fromkeys(part.device for part in parts))
    return PlacementTime("the only one", devices, len(parts), None, _measured(session, feeds, seconds), is_chosen=True)


def _measured(session: Session, feeds: Mapping[str, Any], seconds: float) -> float:
    """The fastest run of those that fit into the time; what partitions take is kept on the way."""
    times = session._model.times
    if times is not None:
        times.replace, times.samples = True, _MOST_RUNS
    took = []
    for _ in range(2):
        start = time.perf_counter()
        session.run(feeds)
        took.append(time.perf_counter() - start)
    count = min(max(round(seconds / took[1]), _LEAST_RUNS), _MOST_RUNS - 1)
    if times is not None:
        times.samples = count
    for _ in range(count):
        start = time.perf_counter()
        session.run(feeds)
        took.append(time.perf_counter() - start)
    return min(took[1:])
