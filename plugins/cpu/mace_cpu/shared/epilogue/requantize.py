"""What is done to exact whole sums before they are stored: requantization, and integer operations that follow it.

Sums are int32.  Those of wide numbers (16 bits) come in two parts, one for the high and one for the low bytes of the
numbers: ``256 * high + low``.  They are added up in float32.  Parts below 2**24 are exact there, so the sum is rounded
once.  Where they may be larger, what the low part has beyond a byte is carried over first, so that nothing large is
cancelled, and the sum is rounded twice, by 2**-24 of it each time.

A kernel that computes sums (convolution, matrix product) takes a `Requantization` as part of its variant, puts its
`tag` into its symbol and passes its words as arguments; the generator calls `RequantizeCode`.
"""

from __future__ import annotations

from dataclasses import dataclass

from mace_cpu.shared.epilogue.epilogue import tag_of
from mace_cpu.shared.epilogue.operations import EpilogueOp

WORDS = 3
"""Words of the requantization itself: the zero point of the result, and its least and largest number."""

STEP_FIRST, STEP_LAST = "first", "last"
"""When sums are multiplied by the size of a step that the run brings: before the scale, which is then multiplied and
the bias added with one rounding for both; or after it."""

WORDS_OF = {"table": 1, "add": 8}
"""Words of each operation that may follow: the address of a table of 256 bytes; or that of the other operand, the zero
points of both and their factors as floats, and the zero point, least and largest number of the result."""

ADD_FLOATS = range(1, 5)
"""Which words of "add" are floats."""


SHORT = {"uint8": "u8", "int8": "s8", "uint16": "u16", "int16": "s16", "int32": "s32", "float32": "f32"}
"""Names of types that are fit for symbols."""

BYTES_OF = {"uint8": 1, "int8": 1, "uint16": 2, "int16": 2, "int32": 4, "float32": 4}


@dataclass(frozen=True, slots=True)
class Following:
    """An operation on quantized numbers that follows the requantization; what it computes is that of the separate node.

    Attributes:
        kind: "table" looks each byte up; "add" is ``round((x - zx) * fx + (y - zy) * fy) + z``, y being another tensor.
        result: the type of what it makes, of 8 or 16 bits; a table is of bytes.
        other: the type of the other operand of "add".
        per_column: the other operand has one number per channel (column), the same for all rows.
        bounded: the result is bounded by other numbers than its type's.
    """

    kind: str
    result: str
    other: str = ""
    bounded: bool = False
    per_column: bool = False

    @property
    def tag(self) -> str:
        """A name for it."""
        short = self.kind + SHORT[self.result]
        return short + SHORT.get(self.other, "") + "b" * self.bounded + "c" * self.per_column


@dataclass(frozen=True, slots=True)
class FloatOps:
    """Operations in float32 on sums times their scales, before they are rounded or stored.

    Their words: the inverse of the scale of the result; the addresses of operands per channel, and of tensors; then the
    zero point and the scale of each tensor.

    Attributes:
        ops: first to last.
        tensors: the type of each operand that is a tensor; quantized numbers are dequantized.
    """

    ops: tuple[EpilogueOp, ...] = ()
    tensors: tuple[str, ...] = ()

    @property
    def words(self) -> int:
        """How many argument words they take."""
        return 1 + sum(op.operand == "channel" for op in self.ops) + 3 * len(self.tensors)

    @property
    def tag(self) -> str:
        """A name for them, fit for a symbol."""
        return "_".join(["r", tag_of(self.ops), "".join(SHORT[kind] for kind in self.tensors)])


@dataclass(frozen=True, slots=True)
class Requantization:
    """What becomes of sums; all that its code depends on.

    Attributes:
        result: "uint8", "int8", "uint16" and "int16": ``round(sum * scale) + zero``, to nearest even, saturated;
            "float32": ``sum * scale``; "int32": the sum.
        bounded: the result is bounded by other numbers than its type's.
        float_bias: a number per channel is added in float32 before rounding.
        far: ``sum * scale`` may leave the range of int32.
        following: operations on the numbers.
        floats: operations on ``sum * scale`` in float32.  Scales are those of floats then, and what comes of it is
            multiplied by the inverse of the scale of the result before it is rounded.
        wide: sums come in two parts.
        carries: these may be 2**24 or more.
        step: `STEP_FIRST` or `STEP_LAST` where the run brings a factor for each row; its word, behind the first three,
            is where they lie.
    """

    result: str
    bounded: bool = False
    float_bias: bool = False
    far: bool = False
    following: tuple[Following, ...] = ()
    floats: FloatOps | None = None
    wide: bool = False
    carries: bool = False
    step: str = ""

    @property
    def is_quantized(self) -> bool:
        """Whether quantized numbers are stored."""
        return self.result not in ("float32", "int32")

    @property
    def stored(self) -> str:
        """The type of what is stored."""
        return self.following[-1].result if self.following else self.result

    @property
    def stored_bytes(self) -> int:
        """Of one stored number."""
        return BYTES_OF[self.stored]

    @property
    def words(self) -> int:
        """How many argument words it takes."""
        own = WORDS + bool(self.step) + (0 if self.floats is None else self.floats.words)
        return own + sum(WORDS_OF[op.kind] for op in self.following)

    @property
    def tag(self) -> str:
        """A name for it, fit for a symbol."""
        flags = "b" * self.bounded + "f" * self.float_bias + "x" * self.far + "w" * self.wide + "c" * self.carries
        flags += self.step[:1] and f"s{self.step[0]}"
        floats = [] if self.floats is None else [self.floats.tag]
        return "_".join([SHORT[self.result] + flags, *floats, *(op.tag for op in self.following)])
