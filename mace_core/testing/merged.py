"""Many independent models as one, so that what they compute shares one arena, and runs that must agree bit by bit.

A lifetime that is planned too short shows where something else is computed into the same memory later.  A model of one
node has nothing else; many of them in one model, their nodes interleaved, have.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import zip_longest
from typing import TYPE_CHECKING, Any
from unittest import mock

from mace_core.provider.arenas import ArenaPlan, Lifetime, plan_arena
from mace_core.provider.poison import VARIABLE

if TYPE_CHECKING:
    import onnx


def merge_models(models: Sequence[onnx.ModelProto], *, interleaved: bool = True) -> onnx.ModelProto:
    """One model of all, every name of the i-th behind the prefix ``m{i}/``.

    Args:
        models: written for the same opsets.
        interleaved: take a node of each in turn instead of one model after the other.

    Raises:
        ValueError: if the opsets differ.
    """
    import onnx
    from onnx import compose

    if len({opsets(model) for model in models}) != 1:
        raise ValueError("only models of the same opsets can be merged")
    merged = onnx.ModelProto(ir_version=max(model.ir_version for model in models))
    merged.graph.name = "merged"
    merged.opset_import.extend(models[0].opset_import)
    nodes: list[list[onnx.NodeProto]] = []
    for index, model in enumerate(models):
        part = compose.add_prefix(model, f"m{index}/")
        for field in ("input", "output", "initializer", "sparse_initializer", "value_info"):
            getattr(merged.graph, field).extend(getattr(part.graph, field))
        merged.functions.extend(part.functions)
        nodes.append(list(part.graph.node))
    rounds = zip_longest(*nodes) if interleaved else nodes
    merged.graph.node.extend(node for part_of in rounds for node in part_of if node is not None)
    return merged


def opsets(model: onnx.ModelProto) -> tuple[tuple[str, int], ...]:
    """What a model imports, in a form to group models by."""
    return tuple(sorted((entry.domain, entry.version) for entry in model.opset_import))


def plan_without_reuse(lifetimes: Sequence[Lifetime], **options: Any) -> ArenaPlan:
    """As `plan_arena`, but no two buffers share a byte."""
    last = max((lifetime.last for lifetime in lifetimes), default=0)
    options.pop("together", None)
    return plan_arena([Lifetime(0, last, lifetime.nbytes) for lifetime in lifetimes], **options)


@contextmanager
def without_reuse() -> Iterator[None]:
    """Plans made inside give every buffer memory of its own; not for sessions that use a cache on disk."""
    import sys

    with ExitStack() as stack:
        for name, module in list(sys.modules.items()):
            ours = name.startswith("mace") and name != __name__
            if ours and getattr(module, "plan_arena", None) is plan_arena:
                stack.enter_context(mock.patch.object(module, "plan_arena", plan_without_reuse))
        yield


@contextmanager
def poisoned(byte: int) -> Iterator[None]:
    """Sessions opened inside run in poisoned memory, see `mace_core.provider.poison`."""
    with mock.patch.dict("os.environ", {VARIABLE: f"{byte:02x}"}):
        yield


def same_bits(one: Any, other: Any) -> bool:
    """Whether two results of a run are the same to the last bit, NaN and zeros of either sign included."""
    import numpy as np

    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(same_bits(a, b) for a, b in zip(one, other, strict=True))
    if not isinstance(one, np.ndarray) or not isinstance(other, np.ndarray):
        return one is other if one is None or other is None else bool(one == other)
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    return bool((one == other).all()) if one.dtype == object else one.tobytes() == other.tobytes()
