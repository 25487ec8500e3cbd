"""What one kernel computes for a whole chain of elementwise operations."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from mace_core.native.kernel_words import WordLayout

Parameters = tuple[float | int | str | None, ...]

HEADER_WORDS = ("length", "segment", "segments")

CONTIGUOUS = "c"
ONE_ELEMENT = "s"
ONE_BLOCK = "b"


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of an expression.

    Attributes:
        name: see ``elementwise_ops.emit``.
        arguments: what it takes: ``i`` is the result of operation i, ``~i`` is input i.
        dtype: the element type of its result.
        parameters: constants of the generated code.
    """

    name: str
    arguments: tuple[int, ...]
    dtype: str
    parameters: Parameters = ()


@dataclass(frozen=True, slots=True)
class Expression:
    """What a kernel computes, whatever the shapes.

    Attributes:
        inputs: (element type, how a row is read) of each.
        operations: in order of evaluation.
        outputs: which results are stored, by operation.
        outer: number of outer dimensions.
        block: lanes of a block of channels; 0 where no input is read in blocks.
    """

    inputs: tuple[tuple[str, str], ...]
    operations: tuple[Operation, ...]
    outputs: tuple[int, ...]
    outer: int
    block: int = 0

    @property
    def symbol(self) -> str:
        """A name that tells the operations, and a hash that tells everything."""
        digest = hashlib.sha256(repr(self).encode()).hexdigest()[:16]
        names = "_".join(operation.name for operation in self.operations)
        return f"elementwise_{names[:48]}_{digest}"

    @property
    def words(self) -> WordLayout:
        """The argument words.

        The lengths of a row and of a segment are in elements, ``segments`` are those of a row.  The outer dimensions
        follow, outermost first, the addresses, and for each input its strides in bytes per outer dimension.
        """
        inputs, outer = len(self.inputs), self.outer
        strides = (f"{stride_word(index)}[{outer}]" for index in range(inputs))
        lists = (f"outer[{outer}]", f"outputs[{len(self.outputs)}]", f"inputs[{inputs}]", *strides)
        return WordLayout.parse(" ".join((*HEADER_WORDS, *lists)))

    def dtype(self, reference: int) -> str:
        """The element type of an operation's result, or of an input (``~i``)."""
        return self.operations[reference].dtype if reference >= 0 else self.inputs[~reference][0]


def stride_word(index: int) -> str:
    """The name of the strides of an input."""
    return f"strides{index}"
