"""The quantized form of a float that is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mace_core.graph import Attribute, Node, Value
from mace_core.tensor import DType
from mace_cpu.quantized.integer_form import Encoding
from mace_cpu.quantized.rewriting.bounds import FREE, Bounds
from mace_cpu.quantized.rewriting.graph import Rewriting

_REAL = Encoding(DType.FLOAT32, (1.0,), (0,))
"""Of floats."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to become of a float.

    Attributes:
        real: the float.
        encoding, scale, zero: how it is quantized.
        bounds: of the result, in its steps.
        into: the value to make, if it exists already.
        behind: the nodes between ``real`` and the result that are computed with it.
    """

    real: Value
    encoding: Encoding
    scale: Value
    zero: Value
    bounds: Bounds = FREE
    into: Value | None = None
    behind: tuple[Node, ...] = ()

    @staticmethod
    def in_float(real: Value) -> Wanted:
        """``real`` itself, computed from quantized numbers."""
        return Wanted(real, _REAL, real, real, into=real)

    @property
    def ending(self) -> tuple[Value | None, Value | None]:
        """Scale and zero point as inputs of a node; None for a result in float."""
        return (None, None) if self.is_real else (self.scale, self.zero)

    @property
    def is_real(self) -> bool:
        """Whether the float itself is wanted."""
        return self.encoding is _REAL

    def result(self, rewriting: Rewriting) -> Value:
        """The value to make."""
        return self.into or rewriting.like(self.real, self.encoding.dtype)

    def make(
        self,
        rewriting: Rewriting,
        op_type: str,
        inputs: Sequence[Value | None],
        node: Node,
        *,
        domain: str,
        attributes: Mapping[str, Attribute],
    ) -> Value | str:
        """The result of an integer node that stands for ``node`` and those behind it; a reason if it cannot be."""
        result = self.result(rewriting)
        reason = rewriting.add(op_type, inputs, [result], (node, *self.behind), domain=domain, attributes=attributes)
        return result if reason is None else reason
