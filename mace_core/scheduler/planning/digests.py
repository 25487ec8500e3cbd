"""Words that tell what is planned from what else could be, and digests of them: the keys of what is stored."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping, Sequence

from mace_core.graph import Graph, GraphView, Value
from mace_core.operators.work_limit import DEFAULT_WORK_LIMIT, work_limit
from mace_core.scheduler.planning.shared import content_word
from mace_core.symbolic import is_symbolic
from mace_core.tensor import Tensor, TensorType, ValueType

_LENGTH = struct.Struct("<I")


def limit_words() -> list[str]:
    """What was resolved under another limit may be refused under this one."""
    limit = work_limit()
    return [] if limit == DEFAULT_WORK_LIMIT else [f"work {limit}"]


def part_words(graph: Graph, types: Mapping[Value, ValueType], values: Mapping[Value, Tensor]) -> list[str]:
    """What tells one part of a model under one signature from another."""
    return words_of(graph.nodes, graph.inputs, graph.outputs, types, values)


def words_of(
    nodes: Sequence[object],
    inputs: Sequence[Value],
    outputs: Sequence[Value],
    types: Mapping[Value, ValueType],
    values: Mapping[Value, Tensor],
) -> list[str]:
    """What, beside the model's fingerprint, tells one part under one signature from another."""
    words = [getattr(node, "name", "") for node in nodes]
    words += ["in", *(f"{value.name}={_type_word(types.get(value))}" for value in inputs)]
    words += ["out", *(value.name for value in outputs)]
    words += ["is", *(f"{value.name}={content_word(values[value])}" for value in sorted(values, key=lambda v: v.name))]
    return words


def has_symbols(type: ValueType) -> bool:
    return isinstance(type, TensorType) and any(is_symbolic(size) for size in type.shape or ())


def _type_word(type: ValueType | None) -> str:
    if isinstance(type, TensorType):
        return f"{type.dtype.value}{type.shape!r}"  # repr tells the dimension 'n' from the number
    return str(type)


def digest_of(*words: str) -> str:
    """One word for several."""
    digest = hashlib.blake2b(digest_size=20)
    for word in words:
        data = word.encode()
        digest.update(_LENGTH.pack(len(data)))
        digest.update(data)
    return digest.hexdigest()


def view_words(views: Sequence[GraphView]) -> list[str]:
    """What tells subgraphs from others of the same model."""
    words: list[str] = []
    for view in views:
        types = {value: found for value in view.inputs if (found := view.type(value)) is not None}
        known = {
            value: constant
            for node in view.nodes
            for value in node.inputs
            if value is not None and value.constant is None and (constant := view.constant(value)) is not None
        }
        words += ["view", *words_of(view.nodes, view.inputs, view.outputs, types, known)]
    return words
