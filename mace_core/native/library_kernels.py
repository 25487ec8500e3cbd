"""What a library does besides running steps: choosing a plan for shapes, binding addresses, looking at faults.

Each works on the memory of one instance, see `mace_core.native.library_words`; its answer, a status, is one of the
instance's words.
"""

from __future__ import annotations

from typing import Any

from mace_core.native.library_words import REGIONS, CopyKind, CopyWord, InstanceWord, Message, ModelWord, VariantWord
from mace_core.native.numba_prelude import Kernel, helper, i64, u8
from mace_core.native.poll_ir import Control
from mace_core.native.size_kernels import evaluate_sizes

KERNEL_DEPENDENCIES = ("mace_core.native.size_kernels", "mace_core.native.library_words", "mace_core.native.pool_ir")

OK, SHAPE_ERROR, MEMORY_ERROR, DATA_ERROR, ARGUMENT_ERROR = 0, 2, 3, 4, 1
"""Of ``mace_status``."""

_REGIONS = tuple(int(region) for region in REGIONS)

(
    _MODEL_TABLES,
    _WEIGHTS,
    _KERNELS,
    _SHAPES,
    _WANTED,
    _REGISTERS,
    _WORDS,
    _STEPS,
    _RELOCATIONS,
    _BASES,
    _STATUS,
    _DIMS,
) = (
    int(word)
    for word in (
        InstanceWord.TABLES,
        InstanceWord.WEIGHTS,
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
    )
)
_ADDRESSES, _VARIANT, _NEEDED, _WORKSPACE, _WORKSPACE_BYTES, _ERROR, _ERROR_VALUE, _RESULT, _GIVEN, _GIVEN_BYTES = (
    int(word)
    for word in (
        InstanceWord.ADDRESSES,
        InstanceWord.VARIANT,
        InstanceWord.NEEDED,
        InstanceWord.WORKSPACE,
        InstanceWord.WORKSPACE_BYTES,
        InstanceWord.ERROR,
        InstanceWord.ERROR_VALUE,
        InstanceWord.RESULT,
        InstanceWord.GIVEN,
        InstanceWord.GIVEN_BYTES,
    )
)
_STEP_NAMES, _STEP_COUNT = int(InstanceWord.STEP_NAMES), int(InstanceWord.STEP_COUNT)
_CONTROL = int(InstanceWord.CONTROL)
_C_STEPS, _C_STEP_COUNT, _C_WORDS, _C_RELOCATIONS, _C_RELOCATION_COUNT, _C_BASES = (
    _CONTROL + int(word)
    for word in (
        Control.STEPS,
        Control.STEP_COUNT,
        Control.WORDS,
        Control.RELOCATIONS,
        Control.RELOCATION_COUNT,
        Control.BASES,
    )
)
_M_VARIANTS, _M_VARIANT_ROWS, _M_INPUTS, _M_OUTPUTS, _M_STARTS, _M_LARGEST, _M_REGIONS, _M_ELEMENTS = (
    int(word)
    for word in (
        ModelWord.VARIANTS,
        ModelWord.VARIANT_ROWS,
        ModelWord.INPUTS,
        ModelWord.OUTPUTS,
        ModelWord.STARTS,
        ModelWord.LARGEST,
        ModelWord.REGIONS,
        ModelWord.ELEMENTS,
    )
)
(
    _V_WORDS,
    _V_WORD_COUNT,
    _V_STEPS,
    _V_STEP_COUNT,
    _V_RELOCATIONS,
    _V_RELOCATION_COUNT,
    _V_CALLS,
    _V_CALL_COUNT,
    _V_ROWS,
    _V_ROW_COUNT,
    _V_SYMBOLS,
    _V_SYMBOL_COUNT,
    _V_FIXED,
    _V_FIXED_COUNT,
    _V_EQUAL,
    _V_EQUAL_COUNT,
    _V_GUARDS,
    _V_GUARD_COUNT,
    _V_SIZED_WORDS,
    _V_SIZED_WORD_COUNT,
    _V_SIZED_STEPS,
    _V_SIZED_STEP_COUNT,
    _V_SIZED_RELOCATIONS,
    _V_SIZED_RELOCATION_COUNT,
    _V_OUTPUT_DIMS,
    _V_OUTPUT_DIM_COUNT,
    _V_ARENA_IS_REGISTER,
    _V_ARENA,
    _V_INPUT_SLOTS,
    _V_INPUT_SLOT_COUNT,
    _V_OUTPUT_SLOTS,
    _V_OUTPUT_SLOT_COUNT,
    _V_FAULTS,
    _V_FAULT_COUNT,
    _V_STEP_NAMES,
    _V_COPIES,
    _V_COPY_COUNT,
    _V_SIZE,
) = (int(word) for word in VariantWord)
_COPY_KIND, _COPY_SOURCE, _COPY_TARGET, _COPY_ELEMENT, _COPY_SIZE = (int(word) for word in CopyWord)
_FROM_CONSTANT, _FROM_INPUT = int(CopyKind.CONSTANT), int(CopyKind.INPUT)
_SHAPES_MESSAGE, _WORKSPACE_MESSAGE, _NO_WORKSPACE_MESSAGE, _FIRST_OWN = (
    int(word) for word in (Message.SHAPES, Message.WORKSPACE, Message.NO_WORKSPACE, Message.FIRST_OWN)
)
_STEP_WORDS, _RELOCATION_WORDS = 5, 3
_GATE = -1
_ARENA_ALIGNMENT = 64


def lay_out() -> Kernel:
    """Where the parts of a new instance are, and the shapes to begin with."""

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        tables = i64(args[_MODEL_TABLES])
        places = tables[_M_REGIONS]
        own = args[_GIVEN]  # the instance's own address
        for number in range(len(_REGIONS)):
            args[_REGIONS[number]] = own + 8 * tables[places + number]
        args[_VARIANT] = -1
        wanted = i64(args[_WANTED])
        starts = tables[_M_STARTS]
        for i in range(tables[starts + tables[_M_INPUTS]]):
            wanted[i] = tables[tables[_M_LARGEST] + i]

    return kernel


@helper
def evaluate(tables: Any, row: Any, wanted: Any, registers: Any) -> Any:
    """Whether a plan is for the shapes wanted; its registers are filled in."""
    place = tables[row + _V_FIXED]
    for i in range(tables[row + _V_FIXED_COUNT]):
        if wanted[tables[place + 2 * i]] != tables[place + 2 * i + 1]:
            return False
    place = tables[row + _V_EQUAL]
    for i in range(tables[row + _V_EQUAL_COUNT]):
        if wanted[tables[place + 2 * i]] != wanted[tables[place + 2 * i + 1]]:
            return False
    symbols = tables[row + _V_SYMBOL_COUNT]
    if symbols == 0:
        return True
    place = tables[row + _V_SYMBOLS]
    for i in range(symbols):
        size, step = wanted[tables[place + 2 * i]], tables[place + 2 * i + 1]
        if size < 0 or size % step != 0:
            return False
        registers[i] = size // step
    return True


def choose_plan() -> Kernel:
    """The first plan that is for the shapes wanted, put in place for the next runs."""

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        tables = i64(args[_MODEL_TABLES])
        wanted, registers = i64(args[_WANTED]), i64(args[_REGISTERS])
        found = -1
        row = tables[_M_VARIANT_ROWS]
        for variant in range(tables[_M_VARIANTS]):
            row = tables[_M_VARIANT_ROWS] + variant * _V_SIZE
            if not evaluate(tables, row, wanted, registers):
                continue
            count = tables[row + _V_ROW_COUNT]
            if count > 0:
                program = i64(args[_MODEL_TABLES] + 8 * tables[row + _V_ROWS])
                evaluate_sizes(program, count, tables[row + _V_SYMBOL_COUNT], registers)
            holds = True
            place = tables[row + _V_GUARDS]
            for i in range(tables[row + _V_GUARD_COUNT]):
                value = registers[tables[place + 3 * i]]
                answer = value < 0 if tables[place + 3 * i + 1] != 0 else value == 0
                if answer != (tables[place + 3 * i + 2] != 0):
                    holds = False
            if holds:
                found = variant
                break
        if found < 0:
            args[_RESULT] = SHAPE_ERROR
            args[_ERROR] = _SHAPES_MESSAGE
            return
        words, steps, relocations = i64(args[_WORDS]), i64(args[_STEPS]), i64(args[_RELOCATIONS])
        if args[_VARIANT] != found:
            args[_VARIANT] = found
            kernels = i64(args[_KERNELS])
            place = tables[row + _V_WORDS]
            for i in range(tables[row + _V_WORD_COUNT]):
                words[i] = tables[place + i]
            place = tables[row + _V_STEPS]
            control = args[_GIVEN] + 8 * _CONTROL
            for i in range(tables[row + _V_STEP_COUNT]):
                for column in range(1, _STEP_WORDS):
                    steps[_STEP_WORDS * i + column] = tables[place + _STEP_WORDS * i + column]
                number = tables[place + _STEP_WORDS * i]
                steps[_STEP_WORDS * i] = _GATE if number < 0 else kernels[number]
                words[steps[_STEP_WORDS * i + 1] - 1] = control
            place = tables[row + _V_RELOCATIONS]
            for i in range(_RELOCATION_WORDS * tables[row + _V_RELOCATION_COUNT]):
                relocations[i] = tables[place + i]
            place = tables[row + _V_CALLS]
            for i in range(tables[row + _V_CALL_COUNT]):
                words[tables[place + 2 * i]] = kernels[tables[place + 2 * i + 1]]
            args[_C_STEPS] = args[_STEPS]
            args[_C_STEP_COUNT] = tables[row + _V_STEP_COUNT]
            args[_C_WORDS] = args[_WORDS]
            args[_C_RELOCATIONS] = args[_RELOCATIONS]
            args[_C_RELOCATION_COUNT] = tables[row + _V_RELOCATION_COUNT]
            args[_C_BASES] = args[_BASES]
            args[_STEP_NAMES] = tables[row + _V_STEP_NAMES]
            args[_STEP_COUNT] = tables[row + _V_STEP_COUNT]
        place = tables[row + _V_SIZED_WORDS]
        for i in range(tables[row + _V_SIZED_WORD_COUNT]):
            words[tables[place + 2 * i]] = registers[tables[place + 2 * i + 1]]
        place = tables[row + _V_SIZED_STEPS]
        for i in range(tables[row + _V_SIZED_STEP_COUNT]):
            at = _STEP_WORDS * tables[place + 3 * i] + tables[place + 3 * i + 1]
            steps[at] = registers[tables[place + 3 * i + 2]]
        place = tables[row + _V_SIZED_RELOCATIONS]
        for i in range(tables[row + _V_SIZED_RELOCATION_COUNT]):
            relocations[_RELOCATION_WORDS * tables[place + 2 * i] + 2] = registers[tables[place + 2 * i + 1]]
        shapes = i64(args[_SHAPES])
        for i in range(tables[tables[_M_STARTS] + tables[_M_INPUTS]]):
            shapes[i] = wanted[i]
        place = tables[row + _V_OUTPUT_DIMS]
        for i in range(tables[row + _V_OUTPUT_DIM_COUNT]):
            size = tables[place + 3 * i + 2]
            shapes[tables[place + 3 * i]] = registers[size] if tables[place + 3 * i + 1] != 0 else size
        needed = tables[row + _V_ARENA]
        args[_NEEDED] = registers[needed] if tables[row + _V_ARENA_IS_REGISTER] != 0 else needed
        args[_RESULT] = OK

    return kernel


def bind_run() -> Kernel:
    """The addresses that a run works on; those of inputs and outputs are in the instance already."""

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        tables, addresses, bases = i64(args[_MODEL_TABLES]), i64(args[_ADDRESSES]), i64(args[_BASES])
        tensors = tables[_M_INPUTS] + tables[_M_OUTPUTS]
        elements = tables[_M_ELEMENTS]
        for i in range(tensors):
            if addresses[i] == 0:
                args[_ERROR] = _FIRST_OWN + i
                args[_RESULT] = ARGUMENT_ERROR
                return
            if addresses[i] & (tables[elements + i] - 1) != 0:
                args[_ERROR] = _FIRST_OWN + tensors + i
                args[_RESULT] = ARGUMENT_ERROR
                return
        workspace, room = args[_GIVEN], args[_GIVEN_BYTES]
        if workspace == 0:
            workspace, room = args[_WORKSPACE], args[_WORKSPACE_BYTES]
            if workspace == 0 and args[_NEEDED] > 0:
                args[_ERROR] = _NO_WORKSPACE_MESSAGE
                args[_RESULT] = ARGUMENT_ERROR
                return
        first = (workspace + _ARENA_ALIGNMENT - 1) & -_ARENA_ALIGNMENT
        if first + args[_NEEDED] > workspace + room:
            args[_ERROR] = _WORKSPACE_MESSAGE
            args[_ERROR_VALUE] = room
            args[_RESULT] = MEMORY_ERROR
            return
        row = tables[_M_VARIANT_ROWS] + args[_VARIANT] * _V_SIZE
        bases[0] = first
        bases[1] = args[_WEIGHTS]
        slot = 2
        for i in range(tables[row + _V_INPUT_SLOT_COUNT]):
            bases[slot] = addresses[tables[tables[row + _V_INPUT_SLOTS] + i]]
            slot += 1
        for i in range(tables[row + _V_OUTPUT_SLOT_COUNT]):
            bases[slot] = addresses[tables[_M_INPUTS] + tables[tables[row + _V_OUTPUT_SLOTS] + i]]
            slot += 1
        bases[slot] = args[_STATUS]
        bases[slot + 1] = args[_DIMS]
        args[_RESULT] = OK

    return kernel


def finish_run() -> Kernel:
    """What a run found wrong; and outputs that no step computes."""

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        tables, addresses, status = i64(args[_MODEL_TABLES]), i64(args[_ADDRESSES]), i64(args[_STATUS])
        row = tables[_M_VARIANT_ROWS] + args[_VARIANT] * _V_SIZE
        args[_RESULT] = OK
        for i in range(tables[row + _V_FAULT_COUNT]):
            if status[2 * i] != 0:
                if args[_RESULT] == OK:
                    args[_RESULT] = DATA_ERROR
                    args[_ERROR] = tables[row + _V_FAULTS] + i
                    args[_ERROR_VALUE] = status[2 * i + 1]
                status[2 * i] = 0
                status[2 * i + 1] = 0
        if args[_RESULT] != OK:
            return
        shapes = i64(args[_SHAPES])
        inputs = tables[_M_INPUTS]
        for i in range(tables[row + _V_COPY_COUNT]):
            copy = tables[row + _V_COPIES] + i * _COPY_SIZE
            number = tables[copy + _COPY_TARGET]
            size = tables[copy + _COPY_ELEMENT]
            starts = tables[_M_STARTS] + inputs + number
            for axis in range(tables[starts], tables[starts + 1]):
                size *= shapes[axis]
            source = tables[copy + _COPY_SOURCE]
            kind = tables[copy + _COPY_KIND]
            if kind == _FROM_CONSTANT:
                origin = args[_WEIGHTS] + source
            elif kind == _FROM_INPUT:
                origin = addresses[source]
            else:
                origin = addresses[inputs + source]
            from_bytes, to_bytes = u8(origin), u8(addresses[inputs + number])
            for at in range(size):
                to_bytes[at] = from_bytes[at]

    return kernel
