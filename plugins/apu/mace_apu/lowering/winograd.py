"""Which convolutions Winograd's algorithm computes, in a library that has it as an extension.

The interface has no such operation of its own. A library may have the extension ``mace.winograd`` with operation 0:

    inputs: picture (NHWC), filter (OHWI, 3x3, as it is), bias, padding left, right, top, bottom, activation, block
    output: picture (NHWC)

all of the types that CONV_2D has, for real numbers. The block is 2 for F(2x2, 3x3) and 4 for F(4x4, 3x3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from mace_apu.description import Call
from mace_apu.neuron.constants import ExtensionOperation, Fuse, OperandCode

WINOGRAD = ExtensionOperation("mace.winograd", 0, "the convolution by Winograd")

BLOCKS = (2, 4)

_INPUT_COST = {2: 32, 4: 156}
_OUTPUT_COST = {2: 24, 4: 90}
"""Operations that it takes to transform one channel of a tile (Lavin and Gray 2015, section 4); filters are
transformed once."""

LEAST_GAIN = 1.25
"""A lower share of what a direct convolution takes is not worth the numbers in between."""


class Form(NamedTuple):
    """What decides about a convolution of 3x3 with stride 1.

    Attributes:
        code: the type of its operands.
        picture: of the input: batch, height, width, channels.
        result: of the output, the same.
        pads: left, right, top, bottom.
        fuse: the activation behind.
    """

    code: OperandCode
    picture: tuple[int, ...]
    result: tuple[int, ...]
    pads: tuple[int, ...]
    fuse: Fuse

    def gain(self, block: int) -> float:
        """How many times fewer operations it takes with a block than directly; a multiplication and its addition are
        one."""
        batch, height, width, outputs = self.result
        inputs = self.picture[3]
        tiles = batch * -(-height // block) * -(-width // block)
        products = (block + 2) ** 2 * inputs * outputs
        transformed = _INPUT_COST[block] * inputs + _OUTPUT_COST[block] * outputs
        return batch * height * width * 9 * inputs * outputs / (tiles * (products + transformed))


@dataclass
class Winograd:
    """What is known about the library's extension.

    Attributes:
        blocks: those that may be chosen; none where the algorithm is switched off.
        absent: why the library does not have it; "" where it does.
        refused: forms that it does not take, with reasons.
        accepted: forms that it does.
        asked: forms that were chosen, and nobody knows whether the library takes them.
    """

    blocks: Sequence[int] = ()
    absent: str = ""
    refused: dict[tuple[Form, int], str] = field(default_factory=dict)
    accepted: set[tuple[Form, int]] = field(default_factory=set)
    asked: dict[tuple[Form, int], Call] = field(default_factory=dict)

    def choose(self, form: Form) -> tuple[int, str]:
        """The block (0 for a direct convolution), and why."""
        if not self.blocks:
            return 0, ""
        gains = sorted(((form.gain(block), block) for block in self.blocks), reverse=True)
        if gains[0][0] < LEAST_GAIN:
            return 0, f"CONV_2D: Winograd's algorithm would take {1 / gains[0][0]:.0%} of its operations"
        if self.absent:
            return 0, f"CONV_2D, not Winograd's algorithm: {self.absent}"
        reason = ""
        for gain, block in gains:
            if gain < LEAST_GAIN:
                continue
            if (form, block) not in self.refused:
                return block, f"by Winograd, F({block}x{block}, 3x3), with {1 / gain:.0%} of the operations of CONV_2D"
            reason = reason or self.refused[form, block]
        return 0, f"CONV_2D, not Winograd's algorithm: {reason}"

    def used(self, form: Form, block: int, call: Call) -> None:
        """A convolution was lowered so."""
        if (form, block) not in self.accepted:
            self.asked[form, block] = call

    def answer(self, form: Form, block: int, reason: str | None) -> None:
        """What the library said to it: None if it takes it."""
        self.asked.pop((form, block), None)
        if reason is None:
            self.accepted.add((form, block))
        else:
            self.refused[form, block] = reason
