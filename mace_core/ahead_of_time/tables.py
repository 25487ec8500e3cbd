"""The tables of a model in a library: its plans as words of 64 bits, see `mace_core.native.library_words`."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mace_core.ahead_of_time.ranges import Size
from mace_core.ahead_of_time.variants import Signature, Variant
from mace_core.native.library_words import REGIONS, CopyWord, InstanceWord, Message, ModelWord, VariantWord
from mace_core.native.program import CONSTANT_SLOT, FIRST_INPUT_SLOT, GATE, NativeProgram
from mace_core.native.runner_ir import RELOCATION_WORDS, STEP_WORDS
from mace_core.native.sizes import PlanSizes
from mace_core.symbolic.program import Op

Words = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]

ALIGNMENT_BYTES = 64

SLACK_BYTES = ALIGNMENT_BYTES
"""What memory of any alignment takes more."""


class WeightPool:
    """The constants of all models of a library, each content once.

    Attributes:
        parts: what is written, one after the other.
        nbytes: of them all.
    """

    def __init__(self) -> None:
        self.parts: list[bytes | memoryview] = []
        self.nbytes = 0
        self._places: dict[bytes, int] = {}

    def add(self, content: Bytes) -> int:
        """Where the content is, from the beginning on."""
        key = hashlib.sha256(content.data).digest() + content.nbytes.to_bytes(8, "little")
        place = self._places.get(key)
        if place is None:
            place = self._places[key] = self.nbytes
            padding = -content.nbytes % ALIGNMENT_BYTES
            if content.nbytes:
                self.parts.append(content.data)
            self.parts.append(bytes(padding))
            self.nbytes += content.nbytes + padding
        return place


class Tables(NamedTuple):
    """What is written of a model.

    Attributes:
        words: its tables.
        kernels: symbols by their numbers in the tables.
        messages: formats with one number of 64 bits.
        steps: name and nodes of each step of each plan.
        instance_bytes, workspace_bytes: as ``mace_runtime.h`` means them.
        most_threads: that take part in some step.
    """

    words: Words
    kernels: tuple[str, ...]
    messages: tuple[str, ...]
    steps: tuple[tuple[str, str], ...]
    instance_bytes: int
    workspace_bytes: int
    most_threads: int


class TableMaker:
    """Makes the tables of one model."""

    def __init__(
        self,
        name: str,
        inputs: Sequence[str],
        outputs: Sequence[str],
        output_ranks: Sequence[int],
        element_bytes: Sequence[int],
        signatures: Sequence[Signature],
        weights: WeightPool,
        shapes_text: str,
        threads: int,
    ) -> None:
        """``element_bytes``: of inputs and outputs; ``shapes_text``: for which shapes the model is built, in words."""
        self._words: list[int] = []
        self._kernels: dict[str, int] = {}
        self._steps: list[tuple[str, str]] = []
        self._weights = weights
        self._signatures = signatures
        self._variants = [variant for signature in signatures for variant in signature.variants]
        self._inputs, self._outputs, self._element_bytes = inputs, outputs, element_bytes
        self._output_ranks = list(output_ranks)
        self._threads = threads
        self._messages = [""] * Message.FIRST_OWN
        texts = {
            Message.NO_ARRAYS: "the array of inputs or that of outputs is NULL",
            Message.WORKSPACE: "the workspace of %lld bytes is too small; mace_needed_workspace says what is needed",
            Message.CANCELLED: "the run was cancelled",
            Message.STARTED: "the system started no more than %lld threads",
            Message.SHAPES: _literal(
                f"the model '{name}' was not built for these shapes; it was built for {shapes_text}"
            ),
            Message.THREADS: "%lld threads cannot be; 0 takes as many as there are processors",
            Message.NO_WORKSPACE: "the instance has no workspace of its own; give one with mace_run_in",
            Message.NO_SHAPES: "the array of shapes is NULL",
        }
        for number, text in texts.items():
            self._messages[number] = text
        self._messages += [_literal(f"the input '{each}' is NULL") for each in inputs]
        self._messages += [_literal(f"the output '{each}' is NULL") for each in outputs]
        kinds = [("input", each) for each in inputs] + [("output", each) for each in outputs]
        self._messages += [
            _literal(f"the address of the {kind} '{each}' is no multiple of {size}, the bytes of an element")
            for (kind, each), size in zip(kinds, element_bytes, strict=True)
        ]

    def make(self) -> Tables:
        """All tables."""
        first = max(self._signatures, key=lambda signature: sum(math.prod(map(_largest, s)) for s in signature.shapes))
        head = [0] * ModelWord.SIZE
        self._words += head
        ranks = [len(shape) for shape in first.shapes]
        ranks += self._output_ranks
        starts = np.cumsum([0, *ranks]).tolist()
        largest = [_largest(size) for shape in first.shapes for size in shape]
        rows = [self._variant_row(variant) for variant in self._variants]
        head[ModelWord.VARIANTS] = len(rows)
        head[ModelWord.INPUTS], head[ModelWord.OUTPUTS] = len(self._inputs), len(self._outputs)
        head[ModelWord.STARTS] = self._put(starts)
        head[ModelWord.LARGEST] = self._put(largest)
        head[ModelWord.VARIANT_ROWS] = self._put(word for row in rows for word in row)
        head[ModelWord.ELEMENTS] = self._put(self._element_bytes)
        head[ModelWord.KERNELS] = len(self._kernels)
        head[ModelWord.MOST_THREADS] = self._most_threads()
        regions, state_bytes = self._regions(starts[-1])
        head[ModelWord.REGIONS] = self._put(regions)
        self._words[: ModelWord.SIZE] = head
        arena = max(signature.arena_bytes for signature in self._signatures)
        return Tables(
            np.array(self._words, np.int64),
            tuple(self._kernels),
            tuple(self._messages),
            tuple(self._steps),
            state_bytes + SLACK_BYTES,
            -(-arena // ALIGNMENT_BYTES) * ALIGNMENT_BYTES + SLACK_BYTES,
            head[ModelWord.MOST_THREADS],
        )

    def _put(self, words: Iterable[int]) -> int:
        place = len(self._words)
        self._words.extend(int(word) for word in words)
        return place

    def _most_threads(self) -> int:
        chunks = [step.chunks for v in self._variants if v.program is not None for step in v.program.steps]
        sized = any(
            v.program is not None and v.program.sizes is not None and (v.program.sizes.steps[:, 1] == 3).any()
            for v in self._variants
        )
        return self._threads if sized or max(chunks, default=1) > 1 else 1

    def _regions(self, dims: int) -> tuple[list[int], int]:
        """Where the parts of an instance begin, in words, and its size in bytes."""
        programs = [variant.program for variant in self._variants if variant.program is not None]
        sizes = {
            InstanceWord.KERNELS: len(self._kernels),
            InstanceWord.SHAPES: dims,
            InstanceWord.WANTED: dims,
            InstanceWord.REGISTERS: max(len(v.symbols) + len(v.rows) for v in self._variants),
            InstanceWord.WORDS: max((len(p.words) for p in programs), default=0),
            InstanceWord.STEPS: STEP_WORDS * max((len(p.steps) for p in programs), default=0),
            InstanceWord.RELOCATIONS: RELOCATION_WORDS * max((len(p.relocations) for p in programs), default=0),
            InstanceWord.BASES: FIRST_INPUT_SLOT + len(self._inputs) + len(self._outputs) + 2,
            InstanceWord.STATUS: 2 * max((len(p.faults) for p in programs), default=0),
            InstanceWord.DIMS: max((p.dim_words for p in programs), default=0),
            InstanceWord.PROFILE: 2 * max((len(p.steps) for p in programs), default=0),
            InstanceWord.ADDRESSES: len(self._inputs) + len(self._outputs),
        }
        at = int(InstanceWord.SIZE)
        places = []
        for region in REGIONS:
            places.append(at)
            at += -(-sizes[region] // 8) * 8  # whole cache lines
        return places, 8 * at

    # --- plans ----------------------------------------------------------------------------------------------------

    def _variant_row(self, variant: Variant) -> list[int]:
        row = [0] * VariantWord.SIZE
        symbols = len(variant.symbols)
        program, sizes, rows = variant.program, None, variant.rows
        row[VariantWord.STEP_NAMES] = len(self._steps)
        row[VariantWord.FAULTS] = len(self._messages)
        if program is not None:
            places = [self._weights.add(constant) for constant in program.constants]
            sizes = program.sizes
            if sizes is not None:
                sizes, rows = _placed_constants(program, sizes, rows, symbols, places)
            self._fill_program(row, program, places)
        self._list(row, VariantWord.ROWS, rows.reshape(-1).tolist(), 3)
        self._list(row, VariantWord.SYMBOLS, [word for pair in variant.symbols for word in pair], 2)
        self._list(row, VariantWord.FIXED, [word for pair in variant.fixed for word in pair], 2)
        self._list(row, VariantWord.EQUAL, [word for pair in variant.equal for word in pair], 2)
        self._list(row, VariantWord.GUARDS, [int(word) for guard in variant.guards for word in guard], 3)
        if sizes is not None:
            self._list(row, VariantWord.SIZED_WORDS, sizes.words.reshape(-1).tolist(), 2)
            self._list(row, VariantWord.SIZED_STEPS, sizes.steps.reshape(-1).tolist(), 3)
            self._list(row, VariantWord.SIZED_RELOCATIONS, sizes.relocations.reshape(-1).tolist(), 2)
        first = sum(len(shape) for shape in self._signatures[0].shapes)
        dims = [
            word
            for number, size in enumerate(variant.output_dims, first)
            for word in (number, int(size.is_register), size.value)
        ]
        self._list(row, VariantWord.OUTPUT_DIMS, dims, 3)
        row[VariantWord.ARENA_IS_REGISTER], row[VariantWord.ARENA] = map(int, variant.arena)
        self._list(row, VariantWord.INPUT_SLOTS, variant.inputs, 1)
        self._list(row, VariantWord.OUTPUT_SLOTS, variant.outputs, 1)
        copies = []
        for copy in variant.copies:
            source = self._weights.add(np.frombuffer(copy.content, np.uint8)) if copy.content else copy.source
            words = {
                CopyWord.KIND: int(copy.kind),
                CopyWord.SOURCE: source,
                CopyWord.TARGET: copy.target,
                CopyWord.ELEMENT_BYTES: self._element_bytes[len(self._inputs) + copy.target],
            }
            copies += [words[word] for word in list(CopyWord)[:-1]]
        self._list(row, VariantWord.COPIES, copies, int(CopyWord.SIZE))
        return row

    def _fill_program(self, row: list[int], program: NativeProgram, places: Sequence[int]) -> None:
        row[VariantWord.WORDS], row[VariantWord.WORD_COUNT] = self._put(program.words.tolist()), len(program.words)
        steps = [
            (-1 if step.kernel == GATE else self._kernel(step.kernel), step.args, step.extent, step.chunks, step.piece)
            for step in program.steps
        ]
        self._list(row, VariantWord.STEPS, [word for step in steps for word in step], STEP_WORDS)
        relocations = program.relocations.copy()
        is_constant = relocations[:, 1] == CONSTANT_SLOT
        offsets = np.array([*places, 0], np.int64)[program.constant_of]
        relocations[is_constant, 2] += offsets[is_constant]
        self._list(row, VariantWord.RELOCATIONS, relocations.reshape(-1).tolist(), RELOCATION_WORDS)
        calls = [word for at, symbol in program.calls for word in (at, self._kernel(symbol))]
        self._list(row, VariantWord.CALLS, calls, 2)
        row[VariantWord.FAULT_COUNT] = len(program.faults)
        for fault in program.faults:
            before, _, after = fault.message.partition("{value}")
            number = "%lld" if "{value}" in fault.message else ""
            self._messages.append(_literal(f"node '{fault.node}': {before}") + number + _literal(after))
        self._steps += [(step.name, ", ".join(step.source)) for step in program.steps]

    def _kernel(self, symbol: str) -> int:
        return self._kernels.setdefault(symbol, len(self._kernels))

    def _list(self, row: list[int], word: VariantWord, items: Sequence[int], width: int) -> None:
        row[word] = self._put(items)
        row[word + 1] = len(items) // width


def _placed_constants(
    program: NativeProgram, sizes: PlanSizes, rows: Words, symbols: int, places: Sequence[int]
) -> tuple[PlanSizes, Words]:
    """The sizes with places in constants counted from the beginning of all weights: that needs further rows."""
    more: list[tuple[int, int, int]] = []
    relocations = sizes.relocations.copy()
    for row, register, start in program.sized_constants:
        origin = places[int(program.constant_of[relocations[row, 0]])] + start
        more.append((int(Op.ADD_N), register, origin))
        relocations[row, 1] = symbols + len(rows) + len(more) - 1
    if more:
        rows = np.concatenate([rows, np.array(more, np.int64)])
    return sizes._replace(relocations=relocations), rows


def _largest(size: Size) -> int:
    return size if isinstance(size, int) else size.largest


def _literal(text: str) -> str:
    """A text as a format that is written as it is."""
    return text.replace("%", "%%")


def element_bytes(bits: int) -> int:
    """Bytes of an element that has whole ones."""
    return max(math.ceil(bits / 8), 1)
