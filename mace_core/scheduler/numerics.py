"""Finds what is not a finite number, right after the step that computed it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mace_core.errors import NumericsError, shorten
from mace_core.graph import Node, Value
from mace_core.scheduler.values import RuntimeValue
from mace_core.tensor import DType

_NAMED_NODES = 4
"""Nodes that a message lists where the provider runs several as one."""


@dataclass(frozen=True, slots=True)
class NumericsCheck:
    """What a session was asked to look for.

    Attributes:
        model: how messages call it.
        infinities: whether an infinity is wrong too; a NaN always is.
    """

    model: str
    infinities: bool = True

    def check(
        self,
        nodes: Sequence[Node],
        device: str,
        computed: Mapping[Value, RuntimeValue],
        read: Callable[[Value], RuntimeValue],
    ) -> None:
        """Look at what ``nodes`` computed on ``device``; ``read`` gives the values they read.

        Raises:
            NumericsError: naming the first output with a value that is not finite.
        """
        for value, content in computed.items():
            found = self._count(content)
            if found is not None:
                raise self._error(nodes, device, value, content, found, read)

    def _count(self, content: RuntimeValue) -> tuple[int, int, tuple[int, ...]] | None:
        """Numbers of NaN and infinite values and the index of the first; None where all is well."""
        numbers = _floats(content)
        if numbers is None:
            return None
        bad = ~np.isfinite(numbers) if self.infinities else np.isnan(numbers)
        if not bad.any():
            return None
        first = np.unravel_index(int(np.argmax(bad)), bad.shape)
        nans = int(np.count_nonzero(np.isnan(numbers)))
        return nans, int(np.count_nonzero(np.isinf(numbers))), tuple(int(i) for i in first)

    def _error(
        self,
        nodes: Sequence[Node],
        device: str,
        value: Value,
        content: npt.NDArray[Any],
        found: tuple[int, int, tuple[int, ...]],
        read: Callable[[Value], RuntimeValue],
    ) -> NumericsError:
        nans, infinities, first = found
        node = value.producer if value.producer in nodes and value.producer is not None else nodes[0]
        inside = {output for member in nodes for output in member.outputs}
        reads = [v for member in nodes for v in member.inputs if v is not None and v not in inside]
        states = {v: _state(v, read(v)) for v in dict.fromkeys(reads)}
        bad = [v.name for v, (is_bad, _) in states.items() if is_bad]
        given = ", ".join(text for _, text in states.values()) or "none"
        where = f" at {list(first)}" if first else ""
        message = (
            f"{self.model}: {_described(nodes, node)} on {device} computed {_counted(nans, infinities)} among the "
            f"{content.size} values of its output '{shorten(value.name)}' "
            f"{DType.from_numpy(content.dtype).label}{list(content.shape)}, the first{where}; "
            f"its inputs {'were bad already' if bad else 'were all finite'}: {given}"
        )
        return NumericsError(
            message,
            node=node.name,
            device=device,
            output=value.name,
            nan_count=nans,
            infinity_count=infinities,
            first_index=first,
            bad_inputs=tuple(bad),
        )


def _described(nodes: Sequence[Node], node: Node) -> str:
    text = f"node '{shorten(node.name)}' ({node.qualified_op})"
    others = [f"'{shorten(other.name)}' ({other.qualified_op})" for other in nodes if other is not node]
    if not others:
        return text
    more = f" and {len(others) - _NAMED_NODES} more" if len(others) > _NAMED_NODES else ""
    return f"{text}, which the device runs as one with {', '.join(others[:_NAMED_NODES])}{more},"


def _counted(nans: int, infinities: int) -> str:
    infinite = f"{infinities} infinit{'y' if infinities == 1 else 'ies'}" if infinities else ""
    return " and ".join(filter(None, (f"{nans} NaN" if nans else "", infinite)))


def _state(value: Value, content: RuntimeValue) -> tuple[bool, str]:
    """Whether an input holds what is not finite, and its range or what is wrong with it."""
    name = f"'{shorten(value.name)}'"
    numbers = _floats(content)
    if numbers is None:
        if isinstance(content, np.ndarray) and content.size and content.dtype.kind in "iub":
            return False, f"{name} from {content.min()} to {content.max()}"
        return False, name
    finite = np.isfinite(numbers)
    if not finite.all():
        nans, infinities = int(np.isnan(numbers).sum()), int(np.isinf(numbers).sum())
        return True, f"{name} with {_counted(nans, infinities)}"
    if not numbers.size:
        return False, f"{name} empty"
    return False, f"{name} from {numbers.min():.6g} to {numbers.max():.6g}"


def _floats(content: RuntimeValue) -> npt.NDArray[Any] | None:
    """Real floating-point numbers of a value in a type numpy computes with; None where it holds none."""
    if not isinstance(content, np.ndarray) or content.dtype == object or content.dtype.kind in "SU":
        return None
    if content.dtype.kind == "f":
        return content
    if content.dtype.kind == "c":
        return np.abs(content)
    return content.astype(np.float32) if DType.from_numpy(content.dtype).is_float else None
