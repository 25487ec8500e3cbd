"""A model as data for the program of its page: nodes, values, weights with statistics, groups."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from mace_core.graph import Attribute, AttributeKind, ComputedTensor, Graph, Node, Value
from mace_core.operators.work import graph_macs
from mace_core.report.graph_groups import Group, groups_of, is_constant
from mace_core.tensor import DType, Tensor, ValueType

SAMPLED_FROM = 4_000_000
"""Elements beyond which the statistics of a constant are those of a sample."""

_BINS = 24
_SQUARED_BEYOND = 1e150
"""Numbers beyond it are looked at in parts of the largest, since their squares and sums are beyond float64."""

_ITEMS_SHOWN = 16
_LETTERS_SHOWN = 400


class _Texts:
    """Each text once; rows refer to them by number."""

    def __init__(self) -> None:
        self.all: list[str] = []
        self._numbers: dict[str, int] = {}

    def number(self, text: str) -> int:
        found = self._numbers.setdefault(text, len(self.all))
        if found == len(self.all):
            self.all.append(text)
        return found


class GraphData:
    """Gathers the rows of one model."""

    def __init__(self, graph: Graph, types: Mapping[Value, ValueType]) -> None:
        """``types``: of values at the shapes that the page is for, where they are known."""
        self._graph = graph
        self._types = types
        self._texts = _Texts()
        self._values: dict[Value, int] = {}
        self._value_rows: list[list[Any]] = []
        self._constant_rows: list[list[Any]] = []
        self._constants: dict[int, int] = {}
        self._nodes: dict[Node, int] = {}
        self._node_rows: list[list[Any]] = []
        self._groups: list[list[Any]] = []
        self._macs = graph_macs(graph, types)

    def rows(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        graph = self._graph
        self._group(groups_of(graph), -1)
        return {
            "nodes": self._node_rows,
            "values": self._value_rows,
            "constants": self._constant_rows,
            "groups": self._groups,
            "inputs": [self._value(value) for value in graph.inputs],
            "outputs": [self._value(value) for value in graph.outputs],
            "texts": self._texts.all,
        }

    def _group(self, group: Group, around: int) -> None:
        number = len(self._groups)
        self._groups.append([group.label, around])
        for member in group.members:
            if isinstance(member, Group):
                self._group(member, number)
            else:
                self._node(member, number)

    def _node(self, node: Node, group: int) -> None:
        self._nodes[node] = len(self._node_rows)
        origin = self._graph.origin_of(node)
        attributes = [
            [name, self._texts.number(attribute_text(attribute))] for name, attribute in node.attributes.items()
        ]
        inner = [self._value(value) for body in node.subgraphs() for value in body.outputs]
        self._node_rows.append(
            [
                node.name,
                self._texts.number(node.qualified_op),
                group,
                [-1 if value is None else self._value(value) for value in node.inputs],
                [-1 if value is None else self._value(value) for value in node.outputs],
                attributes,
                self._texts.number("" if origin is None else str(origin)),
                self._macs.get(node.name, 0),
                inner,
            ]
        )

    def _value(self, value: Value) -> int:
        number = self._values.get(value)
        if number is None:
            number = self._values[value] = len(self._value_rows)
            kind = self._types.get(value, value.type)
            tensor = value.constant if value.constant is not None else _written(value)
            constant = -1 if tensor is None else self._constant(tensor)
            self._value_rows.append([value.name, self._texts.number("" if kind is None else str(kind)), constant])
        return number

    def _constant(self, tensor: Tensor) -> int:
        number = self._constants.get(id(tensor))
        if number is None:
            number = self._constants[id(tensor)] = len(self._constant_rows)
            self._constant_rows.append([tensor.nbytes, statistics_of(tensor)])
        return number


def _written(value: Value) -> Tensor | None:
    """What a Constant node gives, where it is a tensor."""
    node = value.producer
    if node is None or not is_constant(node):
        return None
    found = node.attributes.get("value")
    return found.value if found is not None and found.kind is AttributeKind.TENSOR else None


def statistics_of(tensor: Tensor) -> dict[str, Any] | None:
    """What the numbers of a constant are like, or the numbers themselves where they are few; None for what has none.

    The keys: ``values`` (text), or ``low``, ``high``, ``mean``, ``deviation``, ``zeros`` (share), ``bad`` (how many
    are NaN or infinite), ``counts`` (of equal parts from low to high), ``of`` (elements looked at).
    """
    if isinstance(tensor, ComputedTensor):
        return _statistics_of_stored(tensor)
    if tensor.size == 0:
        return None
    if tensor.size <= _ITEMS_SHOWN:
        return {"values": _short(", ".join(_item(item) for item in tensor.numpy().reshape(-1).tolist()))}
    if tensor.dtype in (DType.STRING, DType.COMPLEX64, DType.COMPLEX128):
        return None
    flat: npt.NDArray[Any] = tensor.numpy().reshape(-1)
    if tensor.size > SAMPLED_FROM:
        flat = flat[:: -(-tensor.size // SAMPLED_FROM)]
    numbers = flat.astype(np.float64)
    good = numbers[np.isfinite(numbers)]
    found: dict[str, Any] = {"of": len(numbers), "bad": int(len(numbers) - len(good))}
    if not len(good):
        return found
    low, high = float(good.min()), float(good.max())
    unit = max(-low, high) if max(-low, high) > _SQUARED_BEYOND else 1.0
    scaled = good / unit
    return {
        **found,
        "low": low,
        "high": high,
        "mean": float(scaled.mean()) * unit,
        "deviation": float(scaled.std()) * unit,
        "zeros": float((good == 0).mean()),
        "counts": _counts(scaled, low / unit, high / unit),
    }


def _counts(numbers: npt.NDArray[Any], low: float, high: float) -> list[int]:
    """How many numbers are in each of equal parts from low to high; `numpy.histogram` refuses narrow ranges."""
    if not low < high:  # all are one number, shown in the middle
        return [len(numbers) if part == _BINS // 2 else 0 for part in range(_BINS)]
    parts = ((numbers - low) / (high - low) * _BINS).astype(np.int64)
    return list(np.bincount(np.minimum(parts, _BINS - 1), minlength=_BINS).tolist())


def _statistics_of_stored(tensor: ComputedTensor) -> dict[str, Any] | None:
    """Of a constant that sessions compute: where that is a Cast alone, the numbers that are stored are the same."""
    nodes, stored = tensor.recipe.nodes, list(tensor.recipe.initializers.values())
    if len(nodes) != 1 or nodes[0].op_type != "Cast" or len(stored) != 1 or stored[0].constant is None:
        return None
    return statistics_of(stored[0].constant)


def attribute_text(attribute: Attribute) -> str:
    """An attribute for people, shortened."""
    kind, value = attribute.kind, attribute.value
    match kind:
        case AttributeKind.TENSOR:
            shown = (
                "" if value.size > _ITEMS_SHOWN else f": {', '.join(map(_item, value.numpy().reshape(-1).tolist()))}"
            )
            return _short(f"{value.dtype.label}{list(value.shape)}{shown}")
        case AttributeKind.GRAPH:
            return f"a graph of {len(value.nodes)} nodes"
        case AttributeKind.GRAPHS:
            return f"{len(value)} graphs"
        case AttributeKind.INTS | AttributeKind.FLOATS | AttributeKind.STRINGS:
            more = f", … ({len(value)})" if len(value) > _ITEMS_SHOWN else ""
            return _short(f"[{', '.join(map(_item, value[:_ITEMS_SHOWN]))}{more}]")
    return _short(_item(value))


def _item(item: Any) -> str:
    if isinstance(item, bytes):
        return item.decode("utf-8", "backslashreplace")
    return f"{item:.6g}" if isinstance(item, float) else str(item)


def _short(text: str) -> str:
    return text if len(text) <= _LETTERS_SHOWN else f"{text[:_LETTERS_SHOWN]}… ({len(text)} characters)"
