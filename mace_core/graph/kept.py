"""State that a model keeps from run to run, as its metadata tells it: which output feeds which input next.

The entry is part of the model's metadata, so that files, packages and caches carry it like any other: a JSON object, by
the name of the input: the name of the output, and what the input is fed in the first run, as one number for all
elements (``fill``) or as bytes (``content``, base64).  Without either it is zeros.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mace_core.errors import ModelError
from mace_core.graph.graph import Graph
from mace_core.tensor import TensorType

STATE_KEY = "mace.state"
"""The key of the entry."""


class KeptState(NamedTuple):
    """What feeds an input.

    Attributes:
        output: the output whose value it is fed in the next run.
        start: what it is fed in the first; None for zeros.
    """

    output: str
    start: npt.NDArray[Any] | None = None


def keep_state(graph: Graph, states: Mapping[str, KeptState]) -> None:
    """Note the state of a graph in its metadata, by the names of its inputs."""
    entries: dict[str, dict[str, Any]] = {}
    for name, state in states.items():
        entry: dict[str, Any] = {"output": state.output}
        start = state.start
        if start is not None and start.size:
            first = start.reshape(-1)[0]
            if np.all(start == first):
                entry["fill"] = first.item()
            else:
                entry["content"] = base64.b64encode(np.ascontiguousarray(start).tobytes()).decode()
                entry["shape"] = list(start.shape)
        entries[name] = entry
    graph.metadata[STATE_KEY] = json.dumps(entries)


def kept_state(graph: Graph) -> dict[str, KeptState]:
    """The state that a graph's metadata tells of, by the names of its inputs; {} where there is none.

    Raises:
        ModelError: if the entry does not fit the graph.
    """
    text = graph.metadata.get(STATE_KEY)
    if text is None:
        return {}
    inputs = {value.name: value.type for value in graph.inputs}
    outputs = {value.name for value in graph.outputs}
    found: dict[str, KeptState] = {}
    try:
        for name, entry in json.loads(text).items():
            type = inputs.get(name)
            if not isinstance(type, TensorType) or entry["output"] not in outputs:
                raise ValueError(f"'{name}' and '{entry['output']}' are not an input and an output")
            found[name] = KeptState(entry["output"], _start(entry, type))
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError, RecursionError, binascii.Error) as error:
        raise ModelError(f"the model's metadata '{STATE_KEY}' does not fit it: {error}") from error
    return found


def with_start(graph: Graph, feeds: Mapping[str, Any]) -> dict[str, Any]:
    """``feeds``, and for the state that they leave out what the first run is fed; for runs by themselves.

    Raises:
        ModelError: as `kept_state`.
    """
    found: dict[str, Any] = dict(feeds)
    types = {value.name: value.type for value in graph.inputs}
    for name, state in kept_state(graph).items():
        type = types[name]
        if name not in found and isinstance(type, TensorType) and type.is_concrete:
            zeros = np.zeros(type.concrete_shape, type.dtype.numpy)
            found[name] = zeros if state.start is None else state.start
    return found


def _start(entry: dict[str, Any], type: TensorType) -> npt.NDArray[Any] | None:
    if "content" in entry:
        content = np.frombuffer(base64.b64decode(entry["content"], validate=True), type.dtype.numpy)
        content = content.reshape(entry["shape"])
        declared = type.shape or ()
        is_like = type.shape is None or len(declared) == content.ndim
        if not is_like or any(isinstance(a, int) and a != b for a, b in zip(declared, content.shape, strict=False)):
            raise ValueError(f"a content of the shape {content.shape} is not {type}")
        return content
    if "fill" in entry and type.is_concrete:
        # one number, whatever the shape is: a few bytes of a file stand for no memory
        return np.broadcast_to(np.asarray(entry["fill"], type.dtype.numpy).reshape(()), type.concrete_shape)
    return None
