"""Runs of whatever kind: anything that can be fed, some of the outputs, with a profile, and words for what is wrong."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mace_core.graph import Graph
from mace_core.provider.execution import CancelFlag
from mace_core.scheduler.context import RunContext
from mace_core.scheduler.planning import notify
from mace_core.scheduler.planning.arguments import check_call, output_names
from mace_core.scheduler.running.feeds import collect_feeds
from mace_core.scheduler.running.into import Into, application_constants
from mace_core.scheduler.running.results import arrays_of, owned
from mace_core.scheduler.running.session_runners import SessionRunners
from mace_core.scheduler.running.written import Span
from mace_core.scheduler.values import RuntimeValue

if TYPE_CHECKING:
    from mace_core.scheduler.profile import Profile


class CarefulRuns:
    """Runs the model of a session where `QuickRuns` cannot."""

    def __init__(self, runners: SessionRunners, graph: Graph, label: str) -> None:
        """``label``: how messages call the model."""
        self._runners = runners
        self._graph = graph
        self._inputs = graph.inputs
        self._outputs = [value.name for value in graph.outputs]
        self._label = label
        self._constants: list[tuple[Span, str]] | None = None  # that an application could write, once they are known

    def run(
        self,
        feeds: Mapping[str, Any],
        outputs: Sequence[str] | None,
        profile: Profile | None,
        cancel: CancelFlag | None,
        into: Into | None = None,
    ) -> dict[str, Any]:
        """As `Session.run`; nobody else writes the arrays of ``into`` at the time."""
        check_call(feeds, outputs, [value.name for value in self._inputs], self._label)
        outputs = output_names(outputs)
        runner = self._runners.whole if outputs is None else self._runners.of(outputs)
        names = self._outputs if outputs is None else list(outputs)
        values = collect_feeds(self._inputs, feeds, self._label)
        fed = arrays_of(values)
        context = RunContext(cancel or CancelFlag(), profile)
        if into is not None:
            into.check_names(names)
            context.targets = into.targets(
                self._graph.outputs, zip([value.name for value in self._inputs], values, strict=True)
            )
        if profile is not None:
            profile.start_ns = time.perf_counter_ns()

        def run(runners: SessionRunners) -> list[RuntimeValue]:
            used = runner if runners is self._runners else runners.whole if outputs is None else runners.of(outputs)
            return used.run(values, context)

        results = self._runners.failover.run(run)
        given = {} if into is None else into.filled(dict(zip(names, results, strict=True)), context)
        if profile is not None:
            profile.end_ns = time.perf_counter_ns()
            notify.profiled(self._label, profile)
        if into is not None:
            fed = [*fed, *into.arrays.values()]
        return {
            name: given[name] if name in given else owned(result, fed)
            for name, result in zip(names, results, strict=True)
        }

    def into(self, given: Mapping[str, Any]) -> Into:
        """Arrays of the caller for outputs, checked.

        Raises:
            InputError: if one does not fit its output, or cannot be written.
        """
        if self._constants is None:
            self._constants = application_constants(self._graph)
        return Into(given, self._graph.outputs, self._constants, self._label)
