"""What can be done to a result before it is stored: activations, per-channel constants, a residual operand.

A lowering that computes ``value`` (convolution, matrix product) calls `match_epilogue`, puts ``Epilogue.tag`` into its
kernel's symbol, and passes addresses for ``Epilogue.channels`` and ``Epilogue.tensors`` as kernel arguments.  The
generator of the kernel is given ``Epilogue.ops`` and calls `EpilogueCode.emit` on its accumulators.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mace_core.graph import Value
from mace_cpu.shared.epilogue.operations import EpilogueOp, FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Epilogue:
    """A sequence of operations, with the operands they take in order.

    Attributes:
        ops: what is done, first to last; with ``tag`` all that the generated code depends on.
        channels: float32 arrays of C elements, one for each op whose operand is "channel", in order.
        tensors: values of the result's shape, ready to be read, one for each op whose operand is "tensor", in order.
    """

    ops: tuple[EpilogueOp, ...] = ()
    channels: tuple[FloatArray, ...] = ()
    tensors: tuple[Value, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.ops)

    def then(self, other: Epilogue) -> Epilogue:
        """This one, and ``other`` behind it."""
        return Epilogue(self.ops + other.ops, self.channels + other.channels, self.tensors + other.tensors)

    @property
    def operand_counts(self) -> dict[str, int]:
        """How many channels and tensors a kernel takes, after all its other words."""
        operands = [op.operand for op in self.ops]
        return {"channels": operands.count("channel"), "tensors": operands.count("tensor")}

    @property
    def tag(self) -> str:
        """A name for the operations and their constants, fit for a symbol: ``add_t_clip0_6``; "" for none."""
        return tag_of(self.ops)

    def split_affine(self, channels: int) -> tuple[FloatArray, FloatArray, Epilogue]:
        """Take the leading per-channel additions and multiplications off, to be folded into weights and bias.

        Returns:
            (scale, shift, rest), the first two of ``channels`` elements: ``self(x) == rest(x * scale + shift)``.
        """
        scale = np.ones(channels, np.float64)
        shift = np.zeros(channels, np.float64)
        arrays = 0
        taken = 0
        for op in self.ops:
            if op.operand == "channel" and op.kind in _AFFINE:
                operand: Any = self.channels[arrays].astype(np.float64)
                arrays += 1
            elif op.kind in _NUMBER_KINDS:
                operand = op.parameters[0]
            else:
                break
            scale, shift = _AFFINE[_NUMBER_KINDS.get(op.kind, op.kind)](scale, shift, operand)
            taken += 1
        rest = Epilogue(self.ops[taken:], self.channels[arrays:], self.tensors)
        return scale.astype(np.float32), shift.astype(np.float32), rest


_AFFINE: dict[str, Callable[[Any, Any, Any], tuple[Any, Any]]] = {
    "add": lambda scale, shift, c: (scale, shift + c),
    "sub": lambda scale, shift, c: (scale, shift - c),
    "rsub": lambda scale, shift, c: (-scale, c - shift),
    "mul": lambda scale, shift, c: (scale * c, shift * c),
    "div": lambda scale, shift, c: (scale / c, shift / c),
}


_NUMBER_KINDS = {"add_number": "add", "mul_number": "mul"}


def tag_of(ops: Sequence[EpilogueOp]) -> str:
    """A name for operations and their constants, fit for a symbol; "" for none."""
    text = "_".join(_op_tag(op) for op in ops)
    return text if len(text) <= 60 else text[:40] + "_" + hashlib.sha256(text.encode()).hexdigest()[:16]


def _op_tag(op: EpilogueOp) -> str:
    if op.operand:
        return f"{op.kind}_{op.operand[0]}"
    constants = (_number_tag(p) for p in op.parameters)
    return op.kind + "_".join(constants)


def _number_tag(number: float | None) -> str:
    """A float32 as letters and digits: small whole numbers readable, others by their bits."""
    if number is None:
        return "x"
    if 0 <= number <= 999 and number == int(number):
        return str(int(number))
    return "h" + struct.pack(">f", number).hex()
