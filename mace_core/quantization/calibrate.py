"""Running a model on calibration data and looking at the values inside it."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from mace_core.errors import InputError, MaceError
from mace_core.graph import Graph, Node, Value
from mace_core.progress import report
from mace_core.quantization.data import CalibrationData
from mace_core.scheduler.planning.stages import fragment, node_reads
from mace_core.session import Session
from mace_core.tensor import TensorType, ValueType

_log = logging.getLogger("mace.quantization")

Watch: TypeAlias = Callable[[Mapping[str, npt.NDArray[Any]]], None]
"""Gets the values of one sample, by name."""

MEMORY_BYTES = 512 << 20
"""Values looked at in one pass over the data may take so much; of more, others are looked at in a further pass."""


@dataclass(frozen=True, slots=True)
class Runner:
    """Runs parts of a graph on the devices chosen.

    Attributes:
        devices, options: as for `Session`.
        memory_bytes: see `MEMORY_BYTES`.
    """

    devices: Sequence[str] | None = None
    options: Mapping[str, Mapping[str, object]] | None = None
    memory_bytes: int = MEMORY_BYTES

    def observe(
        self,
        graph: Graph,
        values: Iterable[Value],
        data: CalibrationData,
        watch: Watch,
        *,
        types: Mapping[Value, ValueType],
        what: str = "calibrating",
    ) -> int:
        """Hand the values of every sample to ``watch``; returns how many samples there were.

        Values of one pass are handed over together; where they take too much memory, there are several passes.

        Args:
            values: of the graph; those that it is fed may be among them.
            types: of values, to tell what they take.
            what: is done, for the progress that is reported.

        Raises:
            MaceError: as of the data, of `Session` and of ``watch``; the message says for which sample.
        """
        groups = list(self._groups(list(dict.fromkeys(values)), types))
        samples = 0
        for number, group in enumerate(groups):
            label = what if len(groups) == 1 else f"{what}, pass {number + 1} of {len(groups)}"
            samples = self._pass(graph, group, data, watch, label, samples)
        return samples

    def _pass(
        self, graph: Graph, group: Sequence[Value], data: CalibrationData, watch: Watch, what: str, expected: int
    ) -> int:
        fed = {value.name for value in graph.inputs}
        computed = [value for value in group if value.name not in fed]
        part = fragment(graph, _needed(graph, computed), graph.inputs, computed or graph.outputs, name=graph.name)
        count = 0
        with Session(part, devices=self.devices, options=self.options, optimize=False, cache=False) as session:
            for origin, feeds in data:
                report(what, count, max(expected, count + 1))
                try:
                    found = session.run(feeds) if computed else {}
                    watch({**{value.name: feeds[value.name] for value in group if value.name in feeds}, **found})
                except MaceError as error:
                    raise InputError(f"calibration failed with {origin}: {error}") from error
                count += 1
        report(what, max(count, 1), max(count, 1))
        return count

    def _groups(self, values: Sequence[Value], types: Mapping[Value, ValueType]) -> Iterable[list[Value]]:
        group: list[Value] = []
        total = 0
        for value in values:
            size = _bytes_of(types.get(value, value.type))
            if group and total + size > self.memory_bytes:
                yield group
                group, total = [], 0
            group.append(value)
            total += size
        if group:
            yield group


def sample_types(graph: Graph, feeds: Mapping[str, npt.NDArray[Any]]) -> dict[Value, ValueType]:
    """The types of the graph's inputs when it is fed this."""
    from mace_core.tensor import DType

    return {
        value: TensorType(DType.from_numpy(feeds[value.name].dtype), feeds[value.name].shape)
        for value in graph.inputs
        if value.name in feeds
    }


def _needed(graph: Graph, values: Sequence[Value]) -> list[Node]:
    if not values:
        return graph.nodes
    wanted = set(values)
    nodes: set[Node] = set()
    for node in reversed(graph.nodes):
        if any(value in wanted for value in node.outputs if value is not None):
            nodes.add(node)
            wanted.update(node_reads(node))
    return [node for node in graph.nodes if node in nodes]


def _bytes_of(type: ValueType | None) -> int:
    if not isinstance(type, TensorType) or type.shape is None or not type.is_concrete:
        return 1 << 20
    return math.prod(int(size) for size in type.shape if isinstance(size, int)) * max(type.dtype.bits // 8, 1)


__all__ = ["MEMORY_BYTES", "Runner", "Watch", "np", "sample_types"]
