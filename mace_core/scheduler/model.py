"""A model made ready for planning: loaded, optimised, with its caches."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mace_core.graph import Graph, GraphView, Value
from mace_core.graph.signature import Resolution
from mace_core.provider import CompiledSubgraph
from mace_core.scheduler.devices import SessionDevice
from mace_core.tensor import Tensor, ValueType

if TYPE_CHECKING:
    from mace_core.frontend.load import Model

_log = logging.getLogger("mace")


@dataclass(slots=True)
class PreparedModel:
    """The graph a session runs, and how it is resolved and compiled.

    Attributes:
        graph: optimised.
        label: how messages call the model.
        fingerprint: of the optimised graph; "" where nothing is cached.
    """

    graph: Graph
    label: str
    fingerprint: str = ""

    def resolve(self, graph: Graph, types: Mapping[Value, ValueType], values: Mapping[Value, Tensor]) -> Resolution:
        """Shapes of ``graph`` (the model or a part of it) for one signature."""
        from mace_core.graph.shapes import resolve

        return resolve(graph, types, values, opset_imports=self.graph.opset_imports)

    def compile(self, device: SessionDevice, views: Sequence[GraphView]) -> list[CompiledSubgraph]:
        """Compile, or restore from the cache."""
        return device.backend.compile(views)


def prepare_model(model: Model, *, optimize: bool, cache: bool, mmap: bool) -> PreparedModel:
    """Load and optimise.

    Raises:
        ModelError: if the model can not be read.
    """
    from mace_core.frontend.load import load_model

    graph = load_model(model, mmap=mmap)
    if optimize and importlib.util.find_spec("mace_core.optimizer.optimize"):
        from mace_core.optimizer import optimize as simplify

        simplify(graph)
    return PreparedModel(graph, label_of(model, graph))


def label_of(model: Model, graph: Graph) -> str:
    """How messages call the model: its file, its own name, or just "the model"."""
    if isinstance(model, str | os.PathLike):
        return f"'{os.fspath(model)}'"
    return f"model '{graph.name}'" if graph.name else "the model"


__all__ = ["PreparedModel", "label_of", "prepare_model"]
