"""How the memory of a library is laid out: words of an instance, and of the tables of a model.

All are 64 bits wide on every processor; where one holds an address, that is in the low half on 32-bit ones.
"""

from __future__ import annotations

from enum import IntEnum

from mace_core.native.poll_ir import Control
from mace_core.native.pool_ir import PoolWord

MOST_THREADS = 64
"""Workers of a pool are bits of a word."""

TEXT_BYTES = 1024
"""Room for a message."""

_WORKER_WORDS = 3  # thread, pool, index


class InstanceWord(IntEnum):
    """Indices of words in the memory of an instance."""

    MODEL = 0
    TABLES = 1
    WEIGHTS = 2
    KERNELS = 3  # address of words with the addresses of kernels
    SHAPES = 4  # address of the dimensions of all inputs and outputs, one after the other
    WANTED = 5  # address of the same for shapes that are asked for
    REGISTERS = 6
    WORDS = 7
    STEPS = 8
    RELOCATIONS = 9
    BASES = 10
    STATUS = 11
    DIMS = 12
    PROFILE = 13
    ADDRESSES = 14  # address of words with the addresses of the inputs and the outputs of a run
    VARIANT = 15  # the plan that is in place; -1: none yet
    NEEDED = 16  # bytes of the arena
    WORKSPACE = 17  # address of one's own, or 0
    WORKSPACE_BYTES = 18
    ALLOCATED = 19  # address of what is to be freed, or 0
    THREADS = 20
    WORKERS = 21  # threads that were started
    HOOK = 22
    USER = 23
    ERROR = 24  # number of a message
    ERROR_VALUE = 25
    BUSY = 26
    CANCEL = 27  # int32
    RESULT = 28  # what the kernels of `mace_core.native.library_kernels` answer
    GIVEN = 29  # what they are given
    GIVEN_BYTES = 30
    STEP_NAMES = 31  # number of the first of the plan's steps among those of the model
    STEP_COUNT = 32
    PROCESS = 33  # that started the threads: the child of a fork has none of them
    CONTROL = 40
    POOL = 64
    THREAD_ROWS = 112
    TEXT = THREAD_ROWS + MOST_THREADS * _WORKER_WORDS
    SIZE = TEXT + TEXT_BYTES // 8


assert InstanceWord.CONTROL + Control.SIZE <= InstanceWord.POOL
assert InstanceWord.POOL + PoolWord.SIZE <= InstanceWord.THREAD_ROWS


class ModelWord(IntEnum):
    """Indices of words at the beginning of a model's tables; places are indices of words in these tables."""

    VARIANTS = 0
    VARIANT_ROWS = 1  # place of a row of `VariantWord` for each plan
    INPUTS = 2
    OUTPUTS = 3
    STARTS = 4  # place of where each tensor's dimensions begin, and where the last one's end
    LARGEST = 5  # place of the dimensions to begin with
    KERNELS = 6
    REGIONS = 7  # place of the indices of words at which the regions of an instance begin, see `REGIONS`
    MOST_THREADS = 8
    ELEMENTS = 9  # place of the bytes of an element of each tensor: a power of two
    SIZE = 10


REGIONS = (
    InstanceWord.KERNELS,
    InstanceWord.SHAPES,
    InstanceWord.WANTED,
    InstanceWord.REGISTERS,
    InstanceWord.WORDS,
    InstanceWord.STEPS,
    InstanceWord.RELOCATIONS,
    InstanceWord.BASES,
    InstanceWord.STATUS,
    InstanceWord.DIMS,
    InstanceWord.PROFILE,
    InstanceWord.ADDRESSES,
)
"""The parts of an instance behind its words, in order."""


class VariantWord(IntEnum):
    """Indices of words in the row of a plan."""

    WORDS = 0
    WORD_COUNT = 1
    STEPS = 2
    STEP_COUNT = 3
    RELOCATIONS = 4
    RELOCATION_COUNT = 5
    CALLS = 6  # pairs: word, number of a kernel
    CALL_COUNT = 7
    ROWS = 8  # of the size program
    ROW_COUNT = 9
    SYMBOLS = 10  # pairs: a dimension, and how many of it a unit of the symbol is
    SYMBOL_COUNT = 11
    FIXED = 12  # pairs: dimension, what it must be
    FIXED_COUNT = 13
    EQUAL = 14  # pairs of dimensions that must be equal
    EQUAL_COUNT = 15
    GUARDS = 16  # triples: register, whether it is asked if that is less than 0 (or is 0), what the answer must be
    GUARD_COUNT = 17
    SIZED_WORDS = 18  # pairs: word, register
    SIZED_WORD_COUNT = 19
    SIZED_STEPS = 20  # triples: step, column, register
    SIZED_STEP_COUNT = 21
    SIZED_RELOCATIONS = 22  # pairs: relocation, register
    SIZED_RELOCATION_COUNT = 23
    OUTPUT_DIMS = 24  # triples: dimension, whether it is a register, that or the number
    OUTPUT_DIM_COUNT = 25
    ARENA_IS_REGISTER = 26
    ARENA = 27
    INPUT_SLOTS = 28  # for each input of the plan the number of the model's
    INPUT_SLOT_COUNT = 29
    OUTPUT_SLOTS = 30
    OUTPUT_SLOT_COUNT = 31
    FAULTS = 32  # number of the first message
    FAULT_COUNT = 33
    STEP_NAMES = 34
    COPIES = 35  # rows, see `CopyWord`
    COPY_COUNT = 36
    SIZE = 37


class CopyWord(IntEnum):
    """Indices of words in a row of what is copied behind a run: outputs that no step computes."""

    KIND = 0  # see `CopyKind`
    SOURCE = 1  # an offset among the weights, or the number of an input or an output
    TARGET = 2  # the number of an output
    ELEMENT_BYTES = 3
    SIZE = 4


class CopyKind(IntEnum):
    """What an output is that no step computes."""

    CONSTANT = 0
    INPUT = 1
    OUTPUT = 2


class Message(IntEnum):
    """Numbers of the messages of every model.

    Behind them are those of its inputs and outputs that are NULL, of the same that are not aligned, and of its faults.
    """

    NONE = 0
    NO_ARRAYS = 1
    WORKSPACE = 2
    CANCELLED = 3
    STARTED = 4
    SHAPES = 5
    THREADS = 6
    NO_WORKSPACE = 7
    NO_SHAPES = 8
    FIRST_OWN = 9
