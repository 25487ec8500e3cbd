"""What is validated: a model on devices, with the options of a session."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mace_core.graph import Graph
from mace_core.numerics.values import Options, placement, values_on_device
from mace_core.provider.registry import Registry
from mace_core.session import Session

if TYPE_CHECKING:
    from mace_core.frontend.load import Model


@dataclass(frozen=True, slots=True)
class Subject:
    """What is looked at: a model on devices."""

    model: Model
    devices: Sequence[str] | None
    options: Options | None
    strict: bool
    pins: Mapping[str, str] | None
    registry: Registry | None

    def run_as_usual(self, feeds: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, int]]:
        """The outputs by name, and how many nodes ran on each device."""
        with self._session(self.model, cache=True) as session:
            return session.run(feeds), session.explain().nodes_per_device

    def run(self, graph: Graph, feeds: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
        """The outputs of a graph of the model, run as the model is; and where each node ran.  The graph is changed."""
        with self._session(graph, cache=False) as session:
            return session.run(feeds), placement(session)

    def values(self, graph: Graph, feeds: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
        """Every value of a graph that nobody would run, computed on the same devices; and where each node ran."""
        return values_on_device(graph, feeds, self.devices, options=self.options, registry=self.registry)

    def _session(self, model: Model, *, cache: bool) -> Session:
        return Session(
            model,
            devices=self.devices,
            options=self.options,
            strict=self.strict,
            pins=self.pins,
            cache=cache,
            registry=self.registry,
        )
