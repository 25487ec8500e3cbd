"""Runs of whatever kind: anything that can be fed, some of the outputs, with a profile, and words for what is wrong."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mace_core.graph import Value
from mace_core.provider.execution import CancelFlag
from mace_core.scheduler.context import RunContext
from mace_core.scheduler.planning import notify
from mace_core.scheduler.planning.arguments import check_call, output_names
from mace_core.scheduler.running.feeds import collect_feeds
from mace_core.scheduler.running.results import arrays_of, owned
from mace_core.scheduler.running.session_runners import SessionRunners
from mace_core.scheduler.values import RuntimeValue

if TYPE_CHECKING:
    from mace_core.scheduler.profile import Profile


class CarefulRuns:
    """Runs the model of a session where `QuickRuns` cannot."""

    def __init__(self, runners: SessionRunners, inputs: Sequence[Value], outputs: Sequence[Value], label: str) -> None:
        """``label``: how messages call the model."""
        self._runners = runners
        self._inputs = inputs
        self._outputs = [value.name for value in outputs]
        self._label = label

    def run(
        self,
        feeds: Mapping[str, Any],
        outputs: Sequence[str] | None,
        profile: Profile | None,
        cancel: CancelFlag | None,
    ) -> dict[str, Any]:
        """As `Session.run`."""
        check_call(feeds, outputs, [value.name for value in self._inputs], self._label)
        outputs = output_names(outputs)
        context = RunContext(profile=profile) if cancel is None else RunContext(cancel, profile)
        runner = self._runners.whole if outputs is None else self._runners.of(outputs)
        names = self._outputs if outputs is None else list(outputs)
        values = collect_feeds(self._inputs, feeds, self._label)
        if profile is not None:
            profile.start_ns = time.perf_counter_ns()

        def run(runners: SessionRunners) -> list[RuntimeValue]:
            used = runner if runners is self._runners else runners.whole if outputs is None else runners.of(outputs)
            return used.run(values, context)

        results = self._runners.failover.run(run)
        if profile is not None:
            profile.end_ns = time.perf_counter_ns()
            notify.profiled(self._label, profile)
        fed = arrays_of(values)
        return {name: owned(result, fed) for name, result in zip(names, results, strict=True)}
