"""What a session tells of itself: which node runs where, and sizes where the model leaves them free."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mace_core.graph import Value
from mace_core.provider.registry import Registry
from mace_core.scheduler.planning.assumptions import AssumedShapes, assumed_shapes, first_taken
from mace_core.scheduler.planning.model import PreparedModel
from mace_core.scheduler.planning.partition import REFERENCE_DEVICE
from mace_core.scheduler.planning.selection import host_advice
from mace_core.scheduler.planning.signatures import given_shapes, signature_text, types_from_shapes
from mace_core.scheduler.running.session_runners import SessionRunners

if TYPE_CHECKING:
    from mace_core.scheduler.explain import Explanation


class Explaining:
    """Answers questions about the plans of a session."""

    def __init__(self, runners: SessionRunners, model: PreparedModel, registry: Registry) -> None:
        self._runners = runners
        self._model = model
        self._graph = model.graph
        self._registry = registry

    def explain(self, shapes: Mapping[str, Sequence[int]] | None) -> Explanation:
        """As `Session.explain`, but for what the governor does."""
        from mace_core.scheduler.explain import explain_plan

        types, note = self._types_to_explain(shapes)
        runners = self._runners.used_now()
        plan = next(runners.plans(types))
        try:
            known, flags = plan.plan.stage.known, self._runners.flags.values
            ways = [f"{v.name} = {bool(known[v].numpy().reshape(-1)[0])}" for v in flags if v in known]
            text = ", ".join([signature_text(self._graph.inputs, types), *ways]) + note
            found = explain_plan(plan, runners.pool, text, self._graph.inputs)
        finally:
            plan.release()
        found.preparations = tuple(self._model.preparations)
        found.one_by_one = self._runners.whole.refusal
        found.computed = list(dict.fromkeys(node.name for each in self._graph.computed for node in each.recipe.nodes))
        if REFERENCE_DEVICE in found.fallbacks:
            found.advice = host_advice(self._registry)
        return found

    def assume_shapes(self, shapes: Mapping[str, Sequence[int]] | None) -> AssumedShapes:
        """As `Session.assume_shapes`."""
        inputs, label = self._graph.inputs, self._model.label
        candidates = assumed_shapes(inputs, given_shapes(inputs, shapes or {}, label))
        return first_taken(
            candidates,
            lambda tried: next(self._runners.plans(types_from_shapes(inputs, tried, label))).release(),
            model=label,
        )

    def _types_to_explain(self, shapes: Mapping[str, Sequence[int]] | None) -> tuple[Mapping[Value, Any], str]:
        """The types given, else of the latest run, else assumed; and what was assumed, as a note."""
        inputs, label = self._graph.inputs, self._model.label
        if shapes is not None:
            return types_from_shapes(inputs, shapes, label), ""
        if self._runners.whole.last_plan is not None:
            types = self._runners.whole.last_types()
            return {value: types[value] for value in inputs if value in types}, ""
        assumed = self.assume_shapes(None)
        return types_from_shapes(inputs, assumed.shapes, label), f" (assumed: {assumed.note})" if assumed.sizes else ""
