"""Where values lie: which layouts of them exist, and the steps that make another one when it is asked for."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from mace_core.graph import Node, Value
from mace_core.symbolic import is_same
from mace_core.tensor import DType
from mace_cpu.plan.assembly import JOURNAL_WORDS
from mace_cpu.shared.layouts.blocks import emit_conversion, emit_copy
from mace_cpu.shared.layouts.channels_last import emit_channels_last, pack_channels_last
from mace_cpu.shared.layouts.packed import emit_packed, emit_unpacked
from mace_cpu.shared.layouts.pairs import emit_pair_rows, emit_pairs, emit_wide
from mace_cpu.shared.layouts.strided import emit_dense
from mace_cpu.shared.layouts.words import emit_words
from mace_cpu.shared.parts.buffers import At, Buf, Journal, Layout, Place, Unsized, element_bytes
from mace_cpu.shared.parts.constants import ConstantPool
from mace_cpu.shared.parts.facts import Facts
from mace_cpu.shared.parts.steps import Steps
from mace_cpu.shared.parts.views import Folded, Strided
from mace_cpu.shared.precision import PairUnit
from mace_cpu.shared.program.concatenation import concatenations
from mace_cpu.shared.program.growths import growths

MOVES_NOTHING = frozenset({"Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"})
"""Operators whose result is their first input, in the same order of elements."""


_SAME_ORDER = {Layout.PLAIN: Layout.CHANNELS_LAST, Layout.CHANNELS_LAST: Layout.PLAIN}
"""Layouts that differ in the order of the elements alone: in the same one, if there is only one pixel or channel."""

REORDERED_BITS = (8, 16)
"""Of the elements that lie in either order."""


@dataclass(frozen=True, slots=True)
class Postponed:
    """A value that is computed when it is read; subclasses say how else it can be had.

    Attributes:
        emit: emits the steps that compute it.
        node: whose result it is.
    """

    emit: Callable[[], None]
    node: Node


class Values:
    """The buffers of values, by layout.

    Attributes:
        in_place: numbers of what the view offers to compute in place and is computed so.
        journals: what has to be put back if a run fails.
        unsized: outputs whose shape only the run tells.
        dim_words: how many words kernels write dimensions to.
    """

    def __init__(self, facts: Facts, steps: Steps, constants: ConstantPool, pair_unit: PairUnit | None) -> None:
        self._facts = facts
        self._steps = steps
        self._constants = constants
        self._pair_unit = pair_unit
        self.unsized: list[Unsized] = []
        self.dim_words = 0
        self._dims = Buf(Place.DIMS, 0)
        self._held: dict[tuple[Value, Layout], Buf] = {}
        self._reserved: dict[tuple[Value, Layout], Buf] = {}
        self._shown: dict[Value, Strided] = {}
        self._folded: dict[Value, Folded] = {}
        self._postponed: dict[Value, Postponed] = {}
        self._grown = growths(facts)
        self.in_place = frozenset(growth.number for growth in self._grown.values())
        growing = {growth.source: growth for growth in self._grown.values() if growth.axis is not None}
        self.journals: list[Journal] = []
        for index, value in enumerate(facts.view.inputs):
            if value in growing:
                self._shown[value] = growing[value].strided(facts.shape(value))
                continue
            dtype = facts.dtype(value)
            layout = Layout.PACKED if dtype.is_packed else Layout.PLAIN
            self._held[value, layout] = Buf(Place.INPUT, dtype.nbytes(facts.size(value)), index)

    # --- reading --------------------------------------------------------------------------------------------------

    def is_ready(self, value: Value) -> bool:
        """Whether ``value`` can be read now: an input, a constant, or computed by an earlier step."""
        held = any((value, layout) in self._held for layout in Layout)
        is_seen = value in self._shown or value in self._folded
        return held or is_seen or value in self._postponed or self._facts.is_constant(value)

    def has(self, value: Value, layout: Layout) -> bool:
        """Whether ``value`` already lies in memory in this layout (reading it so costs nothing)."""
        if (value, layout) in self._held:
            return True
        other = _SAME_ORDER.get(layout)
        return other is not None and (value, other) in self._held and self.is_one_order(value)

    def is_one_order(self, value: Value) -> bool:
        """Whether the PLAIN and the CHANNELS_LAST layout of a value are the same bytes."""
        if self._facts.dtype(value).bits not in REORDERED_BITS:
            return False
        _, *inner = self._facts.shape(value) or (1,)
        return len(inner) < 2 or is_same(inner[0], 1) or is_same(math.prod(inner[1:]), 1)

    def has_only(self, value: Value, layout: Layout) -> bool:
        """Whether ``value`` lies in memory in this layout and in no other."""
        return all(((value, other) in self._held) is (other is layout) for other in Layout)

    def prefers_blocked(self, value: Value) -> bool:
        """Whether reading ``value`` in the BLOCKED layout costs nothing, and in the PLAIN one does."""
        return self.has(value, Layout.BLOCKED) and not self.has(value, Layout.PLAIN)

    def prefers_channels_last(self, value: Value) -> bool:
        """Whether reading ``value`` in the CHANNELS_LAST layout costs nothing, and in the PLAIN one does."""
        return self.has(value, Layout.CHANNELS_LAST) and not self.has(value, Layout.PLAIN)

    def lies_channels_last(self, value: Value) -> bool:
        """Whether ``value`` lies in the order of the CHANNELS_LAST layout alone, be it as a Transpose shows it."""
        if self._facts.dtype(value).bits not in REORDERED_BITS:
            return False
        return self.prefers_channels_last(value) or self.shown_channels_last(value) is not None

    def read(self, value: Value, layout: Layout = Layout.PLAIN) -> Buf:
        """The buffer that holds ``value`` in ``layout``; emits a conversion where it exists only in another."""
        held = self._held.get((value, layout))
        if held is not None:
            return held
        if layout in (Layout.PAIRS, Layout.PAIR_ROWS):
            return self._read_narrow(value, layout)
        if layout is Layout.CHANNELS_LAST or (value, Layout.CHANNELS_LAST) in self._held:
            return self._read_reordered(value, layout)
        sizes = self._facts.sizes_of(value)
        if sizes is not None:
            self._held[value, layout] = emit_words(self._steps, sizes, self._facts.dtype(value))
            return self._held[value, layout]
        constant = self._facts.constant_of(value)
        if constant is not None:
            if layout is Layout.BLOCKED:
                raise ValueError("constants are packed by the lowering that uses them, not read in blocked layout")
            return self._constants.put(constant)
        packed = self._held.get((value, Layout.PACKED))
        if packed is not None:
            emit_unpacked(self._facts, self._steps, value, packed, self.write(value))
            return self.read(value, layout)
        if value in self._postponed:
            left = self._postponed.pop(value)
            with self._steps.on_behalf_of([left.node]):
                left.emit()
            return self.read(value, layout)
        if value in self._shown:
            self._copy_shown(value, self._shown.pop(value))
            return self.read(value, layout)
        if value in self._folded:
            self._copy_shown(value, self._folded.pop(value).fine)
            return self.read(value, layout)
        other = Layout.BLOCKED if layout is Layout.PLAIN else Layout.PLAIN
        source = self._held.get((value, other))
        pairs = self._held.get((value, Layout.PAIRS))
        if source is None and pairs is not None:
            assert self._pair_unit is not None
            source = emit_wide(self._facts, self._steps, self._pair_unit, value, pairs)
            self._held[value, Layout.BLOCKED] = source
            if layout is Layout.BLOCKED:
                return source
        if source is None:
            raise ValueError(f"'{value.name}' is read before it is computed")
        if self._same_bytes(value, layout) and (layout is Layout.PLAIN or source.place is Place.ARENA):
            self._held[value, layout] = source
            return source
        target = self.write(value, layout)
        emit_conversion(self._facts, self._steps, value, source, target, layout)
        return target

    def _read_narrow(self, value: Value, layout: Layout) -> Buf:
        """``value`` in 16-bit floats, made once for all who read it."""
        assert self._pair_unit is not None, "all is float32 in this program"
        if layout is Layout.PAIRS:
            buf = emit_pairs(self._facts, self._steps, self._pair_unit, value, self.read(value, Layout.BLOCKED))
        else:
            buf = emit_pair_rows(self._facts, self._steps, self._pair_unit, value, self.read(value))
        self._held[value, layout] = buf
        return buf

    def _read_reordered(self, value: Value, layout: Layout) -> Buf:
        """``value``, of numbers of 8 or 16 bits, in one of PLAIN and CHANNELS_LAST from the other."""
        if self._facts.dtype(value).bits not in REORDERED_BITS or layout not in _SAME_ORDER:
            raise ValueError(f"'{value.name}' of {self._facts.dtype(value).label} cannot be read {layout.value}")
        constant = self._facts.constant_of(value)
        if constant is not None:
            is_last = layout is Layout.CHANNELS_LAST
            self._held[value, layout] = self._constants.put(pack_channels_last(constant) if is_last else constant)
            return self._held[value, layout]
        lies_so = self.shown_channels_last(value) if layout is Layout.CHANNELS_LAST else None
        if lies_so is not None:
            self._held[value, layout] = lies_so
            return lies_so
        source = self.read(value, _SAME_ORDER[layout])
        if self.is_one_order(value):
            self._held[value, layout] = source
            return source
        target = self.write(value, layout)
        emit_channels_last(self._facts, self._steps, value, source, target, layout)
        return target

    def _same_bytes(self, value: Value, wanted: Layout) -> bool:
        """Whether a value in the other layout needs no conversion to be read in ``wanted``: one pixel per channel."""
        n, c, *spatial = self._facts.shape(value)
        if math.prod(spatial) != 1:
            return False
        return c % self._facts.block == 0 or (n == 1 and wanted is Layout.PLAIN)

    # --- parts and permutations of other values -------------------------------------------------------------------

    def show(self, value: Value, strided: Strided, node: Node) -> None:
        """Let ``value``, the result of ``node``, be elements of another value: they are copied when somebody reads it.

        Those who can read elements where they lie ask for `strided`.
        """
        if self._facts.view.is_output(value):
            self._copy_shown(value, strided.by(node))
        elif strided.is_dense:
            width = element_bytes(self._facts.dtype(value))
            self.alias(value, strided.buf.part(strided.offset * width, self._facts.nbytes(value)))
        else:
            self._shown[value] = strided.by(node)

    def strided(self, value: Value) -> Strided:
        """Where the elements of ``value``, which is ready, lie; copies only from the BLOCKED layout."""
        shown = self._shown.get(value)
        if shown is not None:
            return shown
        shape = self._facts.shape(value)
        strides = tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
        channels_last = self._held.get((value, Layout.CHANNELS_LAST))
        if channels_last is not None and (value, Layout.PLAIN) not in self._held and len(shape) > 2:
            inner = tuple(shape[1] * math.prod(shape[axis + 1 :]) for axis in range(2, len(shape)))
            return Strided(channels_last, 0, shape, (strides[0], 1, *inner))
        return Strided(self.read(value), 0, shape, strides)

    def shown_channels_last(self, value: Value) -> Buf | None:
        """The memory of what was shown, if it lies there in the order of CHANNELS_LAST."""
        shown = self._shown.get(value)
        if shown is None or len(shown.shape) < 3:
            return None
        if not shown.permuted((0, *range(2, len(shown.shape)), 1)).is_dense:
            return None
        return shown.buf.part(shown.offset * element_bytes(self._facts.dtype(value)), self._facts.nbytes(value))

    def postpone(self, value: Value, left: Postponed) -> None:
        """Leave ``value``, which is no output, uncomputed until somebody reads it."""
        self._postponed[value] = left

    def postponed(self, value: Value) -> Postponed | None:
        """What ``value`` was left as, if nobody has read it yet."""
        return self._postponed.get(value)

    def fold(self, value: Value, folded: Folded, node: Node) -> None:
        """As `show`, for elements that have strides in a finer shape alone; who can read these asks for `folded`."""
        if self._facts.view.is_output(value):
            self._copy_shown(value, folded.by(node).fine)
        else:
            self._folded[value] = folded.by(node)

    def folded(self, value: Value) -> Folded | None:
        """Where the elements of ``value`` lie, if it was folded and nobody has read it dense yet."""
        return self._folded.get(value)

    def is_shown(self, value: Value) -> bool:
        """Whether ``value`` was shown and nobody has read it dense yet."""
        return value in self._shown

    def can_show(self, value: Value) -> bool:
        """Whether a part or a permutation of ``value`` can be shown: it lies in memory, row by row or as shown."""
        return value in self._shown or any((value, layout) in self._held for layout in _SAME_ORDER)

    def grown(self, value: Value) -> Strided | None:
        """Where ``value`` is to lie, if it is an input with more behind it; `grow` says when that is there."""
        growth = self._grown.get(value)
        return None if growth is None or growth.axis is None else growth.strided(self._facts.shape(value))

    def written_over(self, value: Value) -> Buf | None:
        """The memory of the input that ``value`` is written over, if it is; it lies there from now on."""
        growth = self._grown.get(value)
        if growth is None or growth.axis is not None:
            return None
        source = self.read(growth.source)
        self.alias(value, source)
        return source

    def keep(self, entries: int, row_bytes: int) -> Journal:
        """Memory for so many rows that are about to be written over, until the run has ended."""
        journal = Journal(Buf.scratch(entries * (8 + row_bytes)), At(self._dims, 8 * self.dim_words), self.dim_words)
        self.dim_words += JOURNAL_WORDS
        self.journals.append(journal)
        return journal

    def grow(self, value: Value, strided: Strided, node: Node) -> None:
        """``value`` lies where `grown` says."""
        self._shown[value] = strided.by(node)

    def _copy_shown(self, value: Value, strided: Strided) -> None:
        emit_dense(self._steps, self._facts.dtype(value), strided, self.write(value))

    # --- writing --------------------------------------------------------------------------------------------------

    def write(self, value: Value, layout: Layout = Layout.PLAIN) -> Buf:
        """A buffer for ``value`` to be computed into: the caller's own memory for an output in plain layout.

        What is going to be concatenated is computed right into its part of the concatenation, where that is one piece.
        """
        if layout is Layout.CHANNELS_LAST and self.is_one_order(value):
            self._held[value, layout] = self.write(value)
            return self._held[value, layout]
        buf = self._reserved.get((value, layout))
        if buf is None:
            buf = self._room(value, layout)
        self._held[value, layout] = buf
        return buf

    def alias(self, value: Value, buf: Buf, layout: Layout = Layout.PLAIN) -> None:
        """Let ``value`` share a buffer that already holds its bytes (Reshape, Identity, Flatten …)."""
        self._held[value, layout] = buf

    def write_unsized(self, value: Value | None, dtype: DType, elements: int, rank: int) -> tuple[Buf, At]:
        """Memory for an output whose shape only the run tells: (room for ``elements``, where to write ``rank`` dims).

        The run hands on as many elements as the dimensions say.  Such a value is always an output of the view, or
        nobody reads it: what depends on it is planned when its shape is known.
        """
        data, at = Buf.scratch(element_bytes(dtype) * elements), At(self._dims, 8 * self.dim_words)
        view = self._facts.view
        if value is not None and view.is_output(value):
            self.unsized.append(Unsized(view.output_index(value), dtype, data, self.dim_words, rank))
        self.dim_words += rank
        return data, at

    def finish(self) -> None:
        """See that every output of the view lies in the caller's memory."""
        unsized = {output.index for output in self.unsized}
        for index, value in enumerate(self._facts.view.outputs):
            if index in unsized or value in self._grown:
                continue
            buf = self.read(value)
            if self._facts.dtype(value).is_packed:
                emit_packed(self._facts, self._steps, value, buf, index)
                continue
            if buf.place is not Place.OUTPUT or buf.index != index or buf.whole is not None:
                nbytes = self._facts.nbytes(value)
                emit_copy(self._steps, buf, Buf(Place.OUTPUT, nbytes, index), nbytes)

    def _room(self, value: Value, layout: Layout) -> Buf:
        view, facts = self._facts.view, self._facts
        is_handed_out = view.is_output(value) and value not in self._grown  # a dense copy of what grows stays inside
        if layout is Layout.PLAIN and is_handed_out and not facts.dtype(value).is_packed:
            return Buf(Place.OUTPUT, facts.nbytes(value), view.output_index(value))
        passed_on = self._passed_on(value) if layout is Layout.PLAIN else None
        if passed_on is not None:
            return Buf(Place.OUTPUT, facts.nbytes(value), view.output_index(passed_on))
        if layout in (Layout.PLAIN, Layout.BLOCKED):
            for whole, start in concatenations(facts, value, layout):
                if whole not in self._grown and not self.is_ready(whole):
                    return self._reserve(whole, layout).part(start, facts.nbytes_in(value, layout))
        return Buf.scratch(facts.nbytes_in(value, layout))

    def _passed_on(self, value: Value) -> Value | None:
        """The output that a node which moves nothing makes of ``value``: it is computed there at once."""
        view, dtype = self._facts.view, self._facts.dtype(value)
        if dtype.is_packed or dtype is DType.STRING:
            return None
        for node in view.users(value):
            result = node.output(0)
            if node.op_type in MOVES_NOTHING and not node.domain and result is not None and view.is_output(result):
                return result if self._facts.dtype(result) is dtype else None
        return None

    def _reserve(self, value: Value, layout: Layout) -> Buf:
        """The buffer that `write` will give for a value that is computed later."""
        if (value, layout) not in self._reserved:
            self._reserved[value, layout] = self._room(value, layout)
        return self._reserved[value, layout]
