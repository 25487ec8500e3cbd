"""Inputs whose truth value says which branches a model takes: merged decoders have one for the first step.

Their content is looked at before anything is planned.  So each way through the model has plans of its own, in which the
branches stand in the place of the Ifs.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mace_core.graph import Graph, Value
from mace_core.tensor import DType, Tensor, TensorType, ValueType

MOST_FLAGS = 2
"""In a model; each of them doubles the plans that there may be, so where there are more, none is looked at."""

_PASSED_ON = frozenset({"Identity", "Not", "And", "Or", "Xor", "Reshape", "Squeeze", "Unsqueeze", "Cast"})
"""What may stand between a flag and the If that it decides."""


class Flags:
    """The flags of a graph.

    Attributes:
        values: the inputs.
        positions: where they are among the graph's inputs.
    """

    def __init__(self, graph: Graph) -> None:
        found = _flags_of(graph)
        positions = [index for index, value in enumerate(graph.inputs) if value in found]
        self.positions = tuple(positions) if len(positions) <= MOST_FLAGS else ()
        self.values = tuple(graph.inputs[index] for index in self.positions)

    def choices(self, types: Mapping[Value, ValueType], known: Mapping[Value, Tensor]) -> Iterator[dict[Value, Tensor]]:
        """Every content there may be, that of ``known`` first."""
        first = [bool(known[value].numpy().reshape(-1)[0]) if value in known else True for value in self.values]
        for changes in itertools.product((False, True), repeat=len(first)):
            yield {
                value: Tensor.from_numpy(np.full(_shape(types.get(value, value.type)), flag != change))
                for value, flag, change in zip(self.values, first, changes, strict=True)
            }

    def frozen(self, arrays: list[npt.NDArray[Any]], key: list[Any]) -> list[npt.NDArray[Any]]:
        """Put copies that nobody can change in the place of the flags fed, and their contents into a signature's key.

        Args:
            arrays: what is fed.
            key: the shapes of ``arrays``.

        Returns:
            The copies.
        """
        copies = []
        for index in self.positions:
            array = arrays[index]
            content = array.tobytes()
            arrays[index] = np.ndarray(array.shape, array.dtype, content)
            key[index] = (array.shape, content)
            copies.append(arrays[index])
        return copies


def signature_key(
    inputs: Sequence[Value], types: Mapping[Value, ValueType], contents: Mapping[Value, Tensor]
) -> tuple[Any, ...]:
    """What plans of the model are kept under."""
    found: list[Any] = []
    for value in inputs:
        kind = types[value]
        shape = kind.concrete_shape if isinstance(kind, TensorType) else None
        found.append((shape, contents[value].numpy().tobytes()) if value in contents else shape)
    return tuple(found)


def _shape(kind: ValueType | None) -> tuple[int, ...]:
    return kind.concrete_shape if isinstance(kind, TensorType) and kind.is_concrete else ()


def _flags_of(graph: Graph) -> frozenset[Value]:
    """The inputs that are one truth value, and that alone decide which way some If goes, wherever it stands."""
    sources: dict[Value, frozenset[Value]] = {
        value: frozenset((value,)) for value in graph.inputs if _is_truth_value(value)
    }
    return frozenset(_deciding(graph, sources)) if sources else frozenset()


def _deciding(graph: Graph, sources: dict[Value, frozenset[Value]]) -> Iterator[Value]:
    """The flags behind the conditions in ``graph``; ``sources``: for what depends on flags alone, on which."""
    for node in graph.nodes:
        if node.domain:
            continue
        read = [value for value in node.inputs if value is not None]
        if node.op_type == "If" and read:
            yield from sources.get(read[0], ())
        if node.op_type in _PASSED_ON and all(value in sources or value.constant is not None for value in read):
            behind = frozenset[Value]().union(*(sources.get(value, ()) for value in read))
            if behind:
                sources.update((value, behind) for value in node.outputs if value is not None)
        for body in node.subgraphs():
            yield from _deciding(body, sources)


def _is_truth_value(value: Value) -> bool:
    kind = value.type
    if not isinstance(kind, TensorType) or kind.dtype is not DType.BOOL or kind.shape is None:
        return False
    return all(dim == 1 for dim in kind.shape)
