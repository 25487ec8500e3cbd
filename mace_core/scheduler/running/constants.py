"""Constants computed as a run would compute them: by the CPU provider where it is installed, else by the reference."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mace_core.errors import ProviderError
from mace_core.graph import Graph, Node, Value
from mace_core.graph.signature import Resolution
from mace_core.provider.registry import REFERENCE, Registry
from mace_core.scheduler.context import RunContext
from mace_core.scheduler.planning.devices import DevicePool
from mace_core.scheduler.planning.model import PreparedModel
from mace_core.scheduler.planning.placement import compile_views
from mace_core.scheduler.planning.remembered import RememberedPlacements
from mace_core.scheduler.planning.selection import HOST_PROVIDER, host_devices, select_devices
from mace_core.scheduler.running.planner import Planner
from mace_core.scheduler.running.runner import GraphRunner
from mace_core.scheduler.values import RuntimeValue
from mace_core.tensor import Tensor, ValueType

_LABEL = "the constants of the model"


class HostConstants:
    """Runs graphs without inputs on the host; the devices are opened when the first one comes.

    The results are those of a run by construction, so that it makes no difference whether a model computes with
    constants or with the same numbers fed to it.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._pool: DevicePool | None = None

    def __call__(self, graph: Graph) -> list[Tensor]:
        """The outputs of ``graph``, which has no inputs.

        Raises:
            MaceError: if it cannot be planned or run.
        """
        if self._pool is None:
            host = HOST_PROVIDER if host_devices(self._registry) else REFERENCE
            self._pool = DevicePool(
                select_devices(self._registry, [host], options={}, strict=False, graph=graph, model=_LABEL)
            )
        fed, feeds = _feeding(graph)
        runner = GraphRunner(self._planner(graph, self._pool), fed, fed.inputs)
        try:
            results = runner.run(feeds, RunContext())
        finally:
            runner.close()
        tensors = []
        for value, result in zip(graph.outputs, results, strict=True):
            if not isinstance(result, np.ndarray):
                raise ProviderError(f"'{value.name}' is not a tensor, and stays to be computed by each run")
            tensors.append(Tensor.from_numpy(result.copy()))
        return tensors

    def close(self) -> None:
        """Close the devices."""
        if self._pool is not None:
            self._pool.release()
            self._pool = None

    @staticmethod
    def _planner(graph: Graph, pool: DevicePool) -> Planner:
        def resolve(part: Graph, types: Mapping[Value, ValueType], values: Mapping[Value, Tensor]) -> Resolution:
            from mace_core.operators import resolve

            return resolve(part, types, values, opset_imports={**part.opset_imports, **graph.opset_imports})

        return Planner(
            label=_LABEL,
            pool=pool,
            compile_with=compile_views,
            resolve=resolve,
            remembered=RememberedPlacements(PreparedModel(graph, _LABEL), pool, strict=False),
            pin=_no_pin,
            strict=False,
            capacity=1,
            opset_imports=graph.opset_imports,
            is_told=False,
        )


def _feeding(graph: Graph) -> tuple[Graph, list[RuntimeValue]]:
    """The same graph with its constants of floats as inputs, and what to feed them.

    Providers may compute with constant parameters beforehand, and round differently then.
    """
    contents = {
        value: value.constant  # what was computed before has a producer, too
        for value in graph.initializers.values()
        if value.constant is not None and value.constant.dtype.is_float
    }
    stands_for = {value: Value(value.name, value.type) for value in contents}
    fed = Graph(graph.name)
    fed.opset_imports = graph.opset_imports
    fed.inputs = list(stands_for.values())
    fed.initializers = {value.name: value for value in graph.initializers.values() if value not in stands_for}
    for node in graph.nodes:
        results = [None if value is None else Value(value.name, value.type) for value in node.outputs]
        inputs = [None if value is None else stands_for.get(value, value) for value in node.inputs]
        stands_for.update((old, new) for old, new in zip(node.outputs, results, strict=True) if old and new)
        fed.nodes.append(
            Node(node.op_type, inputs, results, name=node.name, domain=node.domain, attributes=node.attributes)
        )
    fed.outputs = [stands_for[value] for value in graph.outputs]
    return fed, [content.numpy() for content in contents.values()]


def _no_pin(node: Node) -> None:
    return None
