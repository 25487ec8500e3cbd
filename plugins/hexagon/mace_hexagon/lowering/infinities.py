"""Infinities in float16 on the HTP, which has none.

There the codes of infinities and NaN are numbers from 65536 to 131008, and what is larger stays at 131008.  A constant
infinity becomes the largest number of float16, and what is beyond `BEYOND` counts as infinite: masks can be added,
compared and given to Softmax.  Where infinities may cross to another device, nodes are declined; what is only seen when
a graph runs, `mace_hexagon.borders` refuses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mace_core.graph import GraphView, Node, Value
from mace_core.tensor import DType
from mace_hexagon.lowering.context import Array, DeclinedError

if TYPE_CHECKING:
    from mace_hexagon.lowering.engine import Lowering, Outcome

LARGEST = 65504.0
"""Of float16."""

BEYOND = 60000.0
"""Sizes from here on count as infinite: a mask of -65504 to which a score was added is still below -60000."""

_DEPTH = 24
_MOVES = frozenset(
    {
        "Identity", "Unsqueeze", "Squeeze", "Reshape", "Flatten", "Expand", "Concat", "Pad", "Slice", "Transpose",
        "Tile", "Gather", "Split", "Cast", "CastLike",
    }
)  # fmt: skip
_KEEPING = _MOVES | {"Where", "Add", "Sub", "Sum", "Min", "Max", "Clip", "ReduceMax"}
"""Operators whose result is minus infinity where an operand is, and which the HTP computes so."""

_SPREADING = _KEEPING | {"Mul", "Neg", "ReduceMin", "Trilu"}
"""Operators that pass an infinity on in some form."""

COMPARISONS = frozenset({"Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"})
_ABSORBING = COMPARISONS | {"Softmax", "Exp", "Relu", "Sigmoid", "Tanh"}
"""Operators that read minus infinity rightly and whose results are finite."""


_LIMITS = frozenset({"Min", "Max", "Clip"})
"""Operators that no number of float16 can tell a constant beyond from the largest one."""


class Infinities:
    """Where minus infinity comes from and goes to in a view.

    Attributes:
        values: what an infinite constant may reach through additions, selections and moves.
    """

    def __init__(self, view: GraphView) -> None:
        self._view = view
        self._taken: dict[Value, bool] = {}
        found: set[Value] = set()
        for node in view.nodes:
            if not node.domain and node.op_type in _SPREADING:
                operands = [value for value in _spreading_operands(node) if value is not None]
                if any(value in found or self._is_constant(value) for value in operands):
                    found.update(value for value in node.outputs if value is not None)
        self.values = frozenset(found)

    def reach(self, value: Value | None) -> bool:
        """Whether ``value`` may be infinite, as far as constants tell."""
        return value is not None and (value in self.values or self._is_constant(value))

    def takes(self, value: Value, depth: int = 0) -> bool:
        """Whether all that is done with ``value`` reads minus infinity rightly: it is a mask."""
        if depth > _DEPTH or self._view.is_output(value):
            return False
        if value not in self._taken:
            users = self._view.users(value)
            self._taken[value] = bool(users) and all(self._user_takes(user, value, depth) for user in users)
        return self._taken[value]

    def _user_takes(self, user: Node, value: Value, depth: int) -> bool:
        if user.domain:
            return False
        if user.op_type == "Softmax":
            found = self._view.tensor_type(value)  # `mace_hexagon.borders` looks at the rows of masks
            return found is not None and user.attr("axis", -1) in (-1, len(found.shape or ()) - 1)
        if user.op_type in _ABSORBING:
            return True
        if user.op_type not in _KEEPING or (user.op_type == "Sub" and user.inputs[0] is not value):
            return False
        return all(result is None or self.takes(result, depth + 1) for result in user.outputs)

    def _is_constant(self, value: Value) -> bool:
        held = self._view.constant(value)
        return held is not None and is_real(held.dtype) and bool(np.isinf(held.numpy()).any())


def _spreading_operands(node: Node) -> tuple[Value | None, ...]:
    """Without conditions, shapes and positions."""
    if node.op_type == "Where":
        return tuple(node.inputs[1:3])
    if node.op_type == "Pad":
        return (node.inputs[0], node.input(2))
    if node.op_type in ("Add", "Sub", "Sum", "Min", "Max", "Clip", "Mul", "Concat"):
        return tuple(node.inputs)
    return (node.inputs[0],)


def within_half(lowering: Lowering, array: Array, name: str, node: Node | None) -> Array:
    """A constant operand of ``node`` with infinities, and what is beyond float16, as its largest number.

    Raises:
        DeclinedError: where that changes the result.
    """
    if not array.size or bool((np.abs(array) <= LARGEST).all()):
        return array
    numbers = array.astype(np.float64)
    bounds = node is not None and (node.op_type in _LIMITS or node.op_type in _ABSORBING)
    if not bounds:
        results = [] if node is None or node.op_type not in _KEEPING else node.outputs
        masks = results and all(result is None or lowering.infinities.takes(result) for result in results)
        infinite = np.isneginf(numbers[np.abs(numbers) > LARGEST]).all() and results
        if np.isnan(numbers).any() or (numbers > LARGEST).any() or not (masks or infinite):
            raise DeclinedError(f"'{name}' holds numbers beyond {LARGEST:.0f}, which float16 on the HTP does not have")
    limited: Array = np.clip(numbers, -LARGEST, LARGEST).astype(array.dtype)
    return limited


def decline_infinite_results(lowering: Lowering, outcome: Outcome) -> None:
    """Results that may be infinite are computed where they are read, if that is elsewhere."""
    claimed = {*outcome.single, *(node for cluster in outcome.clusters for node in cluster.nodes)}
    view = lowering.view
    for node in reversed(view.nodes):
        if node not in claimed:
            continue
        for value in node.outputs:
            if value is None or value not in lowering.infinities.values or not is_real(lowering.dtype(value)):
                continue
            if view.is_output(value) or any(user not in claimed for user in view.users(value)):
                claimed.discard(node)
                outcome.single.remove(node)
                outcome.declined[node] = f"'{value.name}' may be infinite, and the HTP has no infinities to hand over"
                break


def is_real(dtype: DType) -> bool:
    """Whether values of this type are held in float16."""
    return dtype in (DType.FLOAT32, DType.FLOAT16)
