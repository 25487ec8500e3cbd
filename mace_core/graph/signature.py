"""The concrete facts of one input signature: what every value's type is, which values shape arithmetic decides."""

from __future__ import annotations

from dataclasses import dataclass, field

from mace_core.graph.graph import Node, Value
from mace_core.tensor import Tensor, ValueType


@dataclass(slots=True)
class Resolution:
    """Result of resolving a graph's shapes for one signature.

    Attributes:
        types: the type of each value reached, concrete wherever it is known before the run.
        known: values whose content the signature decides (Shape, Gather, Concat … chains), small integers mostly.
        blocked: nodes whose output shape cannot be known before the run, each with the inputs whose *content* would
            decide it (empty: only running the node tells, as for NonZero).  Nodes behind them are not reached.
    """

    types: dict[Value, ValueType] = field(default_factory=dict)
    known: dict[Value, Tensor] = field(default_factory=dict)
    blocked: dict[Node, tuple[Value, ...]] = field(default_factory=dict)
