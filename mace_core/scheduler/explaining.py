"""What a session tells of itself: which node runs where, and sizes where the model leaves them free."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

from mace_core.errors import InputError
from mace_core.graph import Value
from mace_core.provider.registry import Registry
from mace_core.scheduler.planning.assumptions import AssumedShapes, assumed_shapes, first_taken
from mace_core.scheduler.planning.model import PreparedModel
from mace_core.scheduler.planning.partition import REFERENCE_DEVICE
from mace_core.scheduler.planning.selection import host_advice
from mace_core.scheduler.planning.signatures import given_shapes, signature_text, types_from_shapes
from mace_core.scheduler.running.session_runners import SessionRunners
from mace_core.tensor import TensorType

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
        given = given_shapes(inputs, shapes or {}, label)
        candidates = chain(self._packaged_shapes(given), assumed_shapes(inputs, given))
        return first_taken(
            candidates,
            lambda tried: next(self._runners.plans(types_from_shapes(inputs, tried, label))).release(),
            model=label,
        )

    def _packaged_shapes(self, given: Mapping[str, tuple[int, ...]]) -> Iterator[AssumedShapes]:
        """What a package was compiled for, as far as it agrees with ``given``."""
        if self._model.package is None:
            return
        tensors = [value for value in self._graph.inputs if isinstance(value.type, TensorType)]
        for shapes in self._model.package.shapes([value.name for value in tensors]):
            if given.items() <= shapes.items():
                with contextlib.suppress(InputError):  # a forged package: its shapes need not fit its graph
                    yield AssumedShapes(given_shapes(tensors, shapes, self._model.label))

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
