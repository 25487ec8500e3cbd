"""A subgraph on its way to a native plan: buffers, layouts, and the steps that fill them.

Lowerings (package ``lowering``) walk the nodes in order and emit steps here.  A step is a kernel with argument words;
where a word is an address it names a :class:`Buf`, and the address is filled in when the plan runs.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from mace_core.graph import GraphView, Node, Value
from mace_core.native.errors import KernelError
from mace_core.native.kernel import KernelSource
from mace_core.native.target import Target
from mace_core.tensor import DType
from mace_cpu.plan.assembly import STATUS_WORDS, Fault
from mace_cpu.shared.precision import Bfloat16Unit
from mace_cpu.shared.program.buffers import At, Buf, Layout, Place, Step, Unsized, element_bytes
from mace_cpu.shared.program.views import Strided

SMALLEST_CHUNK_WORK = 30_000
"""Below about this many scalar operations a chunk is not worth handing to another thread (a region costs ~1 us)."""

CHUNKS_PER_THREAD = 4
"""More chunks than threads, so that a thread that is held up leaves its share to the others."""

Note = TypeVar("Note")

Word: TypeAlias = int | float | Buf | At
"""An argument of a kernel."""

Words: TypeAlias = dict[Any, Word | Sequence[Word]]
"""The arguments of a kernel by name, or by member of the enumeration that numbers them; several under one name."""


def words_of(
    kernel: KernelSource, arguments: Mapping[Any, Word | Sequence[Word]]
) -> tuple[list[int], list[tuple[int, At]]]:
    """The argument words of a step, and which of them are which addresses; see `Program.emit`.

    Raises:
        KernelError: if ``arguments`` are not what the kernel takes.
    """
    words: list[int] = []
    addresses: list[tuple[int, At]] = []
    if kernel.words is None:
        raise KernelError(f"The kernel '{kernel.symbol}' does not name its argument words.")
    for argument in kernel.words.arrange(arguments, kernel.symbol):
        if isinstance(argument, Buf):
            argument = At(argument)
        if isinstance(argument, At):
            argument = argument.in_whole()
            addresses.append((len(words), argument))
            words.append(0)
        elif isinstance(argument, float):
            words.append(struct.unpack("<q", struct.pack("<d", argument))[0])
        else:
            words.append(int(argument))
    return words, addresses


@dataclass(eq=False)
class Program:
    """Everything known about one subgraph while it is lowered.

    Attributes:
        view: the subgraph under its concrete signature.
        target: instruction set to generate for.
        threads: threads the plan will run on (work is split at compile time).
        winograd: whether convolutions may be computed by Winograd's method.
        bfloat16: the unit that multiplies pairs of bfloat16 where that pays; None: all is float32.
        notes: remarks on nodes by their name, for explanations.
        block: channels per block of the BLOCKED layout.
        done: nodes already lowered (alone, or fused into another's step).
        faults: what kernels may find wrong with the content of inputs while they run.
        unsized: outputs whose shape only the run tells.
        dim_words: how many words kernels write dimensions to.
        packed: constants in the order a kernel reads them, by where they lie and how they are packed, so that users
            of one weight share it; with the array, so that nothing else comes to lie there.
    """

    view: GraphView
    target: Target
    threads: int = 1
    winograd: bool = True
    bfloat16: Bfloat16Unit | None = None
    notes: dict[str, str] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    done: set[Node] = field(default_factory=set)
    faults: list[Fault] = field(default_factory=list)
    unsized: list[Unsized] = field(default_factory=list)
    dim_words: int = 0
    packed: dict[tuple[object, ...], tuple[npt.NDArray[Any], Buf]] = field(default_factory=dict)
    _status: Buf = field(default_factory=lambda: Buf(Place.STATUS, 0))
    _dims: Buf = field(default_factory=lambda: Buf(Place.DIMS, 0))
    _held: dict[tuple[Value, Layout], Buf] = field(default_factory=dict)
    _reserved: dict[tuple[Value, Layout], Buf] = field(default_factory=dict)
    _shown: dict[Value, Strided] = field(default_factory=dict)
    _known: dict[Value, npt.NDArray[Any]] = field(default_factory=dict)
    _deferred: dict[Value, tuple[Node, object]] = field(default_factory=dict)
    _constants: list[tuple[Buf, npt.NDArray[Any]]] = field(default_factory=list)
    _constant_memo: dict[tuple[Any, ...], Buf] = field(default_factory=dict)
    _kept: list[npt.NDArray[Any]] = field(default_factory=list)
    _node: Node | None = None
    _fused: list[Node] = field(default_factory=list)

    def __post_init__(self) -> None:
        for index, value in enumerate(self.view.inputs):
            dtype = self.dtype(value)
            layout = Layout.PACKED if dtype.is_packed else Layout.PLAIN
            self._held[value, layout] = Buf(Place.INPUT, dtype.nbytes(self.size(value)), index)

    @property
    def block(self) -> int:
        return 16 if self.target.vector_bits >= 512 else 8

    # --- facts about values ---------------------------------------------------------------------------------------

    def shape(self, value: Value) -> tuple[int, ...]:
        return self.view.shape(value)

    def dtype(self, value: Value) -> DType:
        found = self.view.tensor_type(value)
        if found is None:
            raise ValueError(f"'{value.name}' is not a tensor of known type")
        return found.dtype

    def size(self, value: Value) -> int:
        return math.prod(self.shape(value))

    def nbytes(self, value: Value) -> int:
        """Bytes of the value in the PLAIN layout."""
        return element_bytes(self.dtype(value)) * self.size(value)

    def constant_of(self, value: Value | None) -> npt.NDArray[Any] | None:
        """The content where it is known: initializers, shape arithmetic, and what `know` was told; else None."""
        if value is not None and value in self._known:
            return self._known[value]
        found = self.view.constant(value)
        return None if found is None else found.numpy()

    def know(self, value: Value, content: npt.NDArray[Any]) -> None:
        """``value`` was computed while compiling: it is a constant from now on."""
        self._known[value] = content

    def blocked_nbytes(self, value: Value) -> int:
        """Bytes of a float32 value (N, C, ...) in the BLOCKED layout."""
        n, c, *spatial = self.shape(value)
        return 4 * n * -(-c // self.block) * self.block * math.prod(spatial)

    def narrow_nbytes(self, value: Value, layout: Layout) -> int:
        """Bytes of a float32 value in one of the layouts of bfloat16."""
        shape = self.shape(value)
        axis = 1 if layout is Layout.PAIRS else len(shape) - 1
        groups = -(-shape[axis] // (2 * self.block))
        return 4 * self.block * groups * math.prod(shape[:axis]) * math.prod(shape[axis + 1 :])

    # --- buffers --------------------------------------------------------------------------------------------------

    def is_ready(self, value: Value) -> bool:
        """Whether ``value`` can be read now: an input, a constant, or computed by an earlier step."""
        held = any((value, layout) in self._held for layout in Layout)
        return held or value in self._shown or value in self._known or self.view.constant(value) is not None

    def has(self, value: Value, layout: Layout) -> bool:
        """Whether ``value`` already lies in memory in this layout (reading it so costs nothing)."""
        return (value, layout) in self._held

    def has_only(self, value: Value, layout: Layout) -> bool:
        """Whether ``value`` lies in memory in this layout and in no other."""
        return all(((value, other) in self._held) is (other is layout) for other in Layout)

    def read(self, value: Value, layout: Layout = Layout.PLAIN) -> Buf:
        """The buffer that holds ``value`` in ``layout``; emits a conversion where it exists only in another."""
        held = self._held.get((value, layout))
        if held is not None:
            return held
        if layout in (Layout.PAIRS, Layout.PAIR_ROWS):
            return self._read_narrow(value, layout)
        constant = self.constant_of(value)
        if constant is not None:
            if layout is Layout.BLOCKED:
                raise ValueError("constants are packed by the lowering that uses them, not read in blocked layout")
            return self.constant(constant)
        if (value, Layout.PACKED) in self._held:
            from mace_cpu.shared.layouts.packed import emit_unpacked

            emit_unpacked(self, value, self._held[value, Layout.PACKED])
            return self.read(value, layout)
        if value in self._shown:
            from mace_cpu.shared.layouts.strided import emit_dense

            emit_dense(self, value, self._shown.pop(value))
            return self.read(value, layout)
        other = Layout.BLOCKED if layout is Layout.PLAIN else Layout.PLAIN
        source = self._held.get((value, other))
        if source is None and (value, Layout.PAIRS) in self._held:
            from mace_cpu.shared.layouts.pairs import emit_wide

            source = emit_wide(self, value, self._held[value, Layout.PAIRS])
            self._held[value, Layout.BLOCKED] = source
            if layout is Layout.BLOCKED:
                return source
        if source is None:
            raise ValueError(f"'{value.name}' is read before it is computed")
        if self._same_bytes(value, layout) and (layout is Layout.PLAIN or source.place is Place.ARENA):
            self._held[value, layout] = source
            return source
        from mace_cpu.shared.layouts.blocks import emit_conversion

        target = self.write(value, layout)
        emit_conversion(self, value, source, target, layout)
        return target

    def show(self, value: Value, strided: Strided, node: Node) -> None:
        """Let ``value``, the result of ``node``, be elements of another value: they are copied when somebody reads it.

        Those who can read elements where they lie ask for `strided`.
        """
        if self.view.is_output(value):
            from mace_cpu.shared.layouts.strided import emit_dense

            emit_dense(self, value, strided.by(node))
        elif strided.is_dense:
            width = element_bytes(self.dtype(value))
            self.alias(value, strided.buf.part(strided.offset * width, self.nbytes(value)))
        else:
            self._shown[value] = strided.by(node)

    def strided(self, value: Value) -> Strided:
        """Where the elements of ``value``, which is ready, lie; copies only from the BLOCKED layout."""
        shown = self._shown.get(value)
        if shown is not None:
            return shown
        shape = self.shape(value)
        strides = tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
        return Strided(self.read(value), 0, shape, strides)

    def is_shown(self, value: Value) -> bool:
        """Whether ``value`` was shown and nobody has read it dense yet."""
        return value in self._shown

    def can_show(self, value: Value) -> bool:
        """Whether a part or a permutation of ``value`` can be shown: it lies in memory, row by row or as shown."""
        return value in self._shown or (value, Layout.PLAIN) in self._held

    def _read_narrow(self, value: Value, layout: Layout) -> Buf:
        """``value`` as bfloat16, made once for all who read it."""
        from mace_cpu.shared.layouts.pairs import emit_pair_rows, emit_pairs

        if layout is Layout.PAIRS:
            buf = emit_pairs(self, value, self.read(value, Layout.BLOCKED))
        else:
            buf = emit_pair_rows(self, value, self.read(value))
        self._held[value, layout] = buf
        return buf

    def _same_bytes(self, value: Value, wanted: Layout) -> bool:
        """Whether a value in the other layout needs no conversion to be read in ``wanted``: one pixel per channel."""
        n, c, *spatial = self.shape(value)
        if math.prod(spatial) != 1:
            return False
        return c % self.block == 0 or (n == 1 and wanted is Layout.PLAIN)

    def write(self, value: Value, layout: Layout = Layout.PLAIN) -> Buf:
        """A buffer for ``value`` to be computed into: the caller's own memory for an output in plain layout.

        What is going to be concatenated is computed right into its part of the concatenation, where that is one piece.
        """
        buf = self._reserved.get((value, layout))
        if buf is None:
            buf = self._room(value, layout)
        self._held[value, layout] = buf
        return buf

    def reserve(self, value: Value, layout: Layout) -> Buf:
        """The buffer that `write` will give for a value that is computed later."""
        if (value, layout) not in self._reserved:
            self._reserved[value, layout] = self._room(value, layout)
        return self._reserved[value, layout]

    def _room(self, value: Value, layout: Layout) -> Buf:
        from mace_cpu.movement.lower_concatenation import place_in_concatenation

        if layout is Layout.PLAIN and self.view.is_output(value) and not self.dtype(value).is_packed:
            return Buf(Place.OUTPUT, self.nbytes(value), self.view.output_index(value))
        if layout not in (Layout.PLAIN, Layout.BLOCKED):
            return self.scratch(self.narrow_nbytes(value, layout))
        placed = place_in_concatenation(self, value, layout)
        if placed is not None:
            return placed
        return self.scratch(self.nbytes(value) if layout is Layout.PLAIN else self.blocked_nbytes(value))

    def write_unsized(self, value: Value | None, dtype: DType, elements: int, rank: int) -> tuple[Buf, At]:
        """Memory for an output whose shape only the run tells: (room for ``elements``, where to write ``rank`` dims).

        The run hands on as many elements as the dimensions say.  Such a value is always an output of the view, or
        nobody reads it: what depends on it is planned when its shape is known.
        """
        data, at = self.scratch(element_bytes(dtype) * elements), At(self._dims, 8 * self.dim_words)
        if value is not None and self.view.is_output(value):
            self.unsized.append(Unsized(self.view.output_index(value), dtype, data, self.dim_words, rank))
        self.dim_words += rank
        return data, at

    def alias(self, value: Value, buf: Buf, layout: Layout = Layout.PLAIN) -> None:
        """Let ``value`` share a buffer that already holds its bytes (Reshape, Identity, Flatten …)."""
        self._held[value, layout] = buf

    def scratch(self, nbytes: int) -> Buf:
        """An arena buffer, alive from the first to the last step that names it; its content starts undefined."""
        return Buf(Place.ARENA, max(nbytes, 1))

    def constant(self, array: npt.NDArray[Any], *, in_place: bool = False) -> Buf:
        """A constant buffer with the bytes of ``array`` (packed weights, tables), 64-byte aligned; shared if equal.

        ``in_place`` promises that nobody will change the array, which lies 64-byte aligned: it is not copied then.
        """
        data = np.ascontiguousarray(array)
        key: tuple[Any, ...] = (id(array),) if data.nbytes > 4096 else (data.dtype.str, data.shape, data.tobytes())
        if key not in self._constant_memo:
            buf = Buf(Place.CONSTANT, data.nbytes, in_place=in_place)
            self._constants.append((buf, data))
            self._constant_memo[key] = buf
            self._kept.append(array)  # so that no other array gets its id while the memo lives
        return self._constant_memo[key]

    def report(self, message: str) -> At:
        """Where a kernel of the current node writes 1 and the offending number when an input's content is wrong.

        The run then raises a ProviderError with ``message``, a sentence in which ``{value}`` is that number.
        """
        self.faults.append(Fault(message, self._node.name if self._node is not None else ""))
        return At(self._status, (len(self.faults) - 1) * STATUS_WORDS * 8)

    # --- steps ----------------------------------------------------------------------------------------------------

    def chunks(self, extent: int, work: float) -> int:
        """Into how many chunks a step of ``extent`` units and ``work`` scalar operations in all is to be split."""
        if self.threads <= 1 or extent <= 1:
            return 1
        wanted = min(extent, self.threads * CHUNKS_PER_THREAD, int(work / SMALLEST_CHUNK_WORK))
        return max(wanted, 1)

    def emit(
        self,
        kernel: KernelSource,
        arguments: Mapping[Any, Word | Sequence[Word]],
        *,
        extent: int,
        work: float = 0.0,
        chunks: int | None = None,
        name: str | None = None,
        note: str = "",
        form: object = None,
    ) -> None:
        """Append a step over units ``[0, extent)``.

        Args:
            kernel: what to run.
            arguments: its words by name: ints as they are, floats as float64 bits, buffers as addresses.
            extent: number of independent units of work; 0 makes the step vanish (empty tensors).
            work: scalar operations in all, to decide the split where ``chunks`` does not, and into how many calls.
            name: for profiles; default the op types of the nodes it computes.
            note: a remark on how the current node is computed, for profiles and explanations.
            form: what those who join steps need to know.
        """
        if extent == 0:
            return
        words, addresses = words_of(kernel, arguments)
        nodes = ([self._node] if self._node is not None else []) + self._fused
        name = name or "+".join(n.op_type for n in nodes) or kernel.symbol
        if note:
            name = f"{name} ({note})"
            self.remark(note)
        self.steps.append(
            Step(
                kernel,
                words,
                addresses,
                extent,
                chunks if chunks is not None else self.chunks(extent, work),
                name,
                tuple(s for n in nodes for s in n.source),
                form,
                work,
            )
        )

    def remark(self, note: str) -> None:
        """Note how the current node is computed, for explanations; "" says nothing."""
        if note and self._node is not None:
            self.notes[self._node.name] = note

    # --- fusion ---------------------------------------------------------------------------------------------------

    def begin(self, node: Node) -> None:
        """Steps emitted from now on belong to ``node``."""
        self._node = node
        self._fused = []

    def sole_user(self, value: Value) -> Node | None:
        """The one node that reads ``value`` (once), if nobody else, and nothing outside, needs it."""
        users = self.view.users(value)
        if len(users) != 1 or self.view.is_output(value) or not self.is_free(users[0]):
            return None
        return users[0]

    def is_free(self, node: Node) -> bool:
        """Whether a fusion may take ``node``: it is not computed yet, and no deferred value is left to it."""
        return node not in self.done and all(user is not node for user, _ in self._deferred.values())

    def claim(self, nodes: Sequence[Node]) -> None:
        """Mark nodes as computed by a step that somebody else builds.

        Raises:
            ValueError: if one of them is not free: two fusions overlap.
        """
        for node in nodes:
            if not self.is_free(node):
                raise ValueError(f"node '{node.name}' ({node.op_type}) is taken by two fusions")
            self.done.add(node)

    def defer(self, value: Value, user: Node, note: object) -> None:
        """Leave ``value`` uncomputed: the lowering of ``user``, which alone reads it, asks for ``note`` (`take_note`).

        Everything that ``note`` names is ready.  Until then ``user`` is not free.
        """
        if self.sole_user(value) is not user:
            raise ValueError(f"'{value.name}' is left to node '{user.name}', which is not free or not its only reader")
        self._deferred[value] = user, note

    def is_deferred(self, value: Value) -> bool:
        """Whether ``value`` was left to the node that reads it, and is not computed."""
        return value in self._deferred

    def take_note(self, value: Value, kind: type[Note]) -> Note | None:
        """What the current node is to know about a value that was left to it; None where it was not."""
        _, note = self._deferred.get(value, (None, None))
        if not isinstance(note, kind):
            return None
        del self._deferred[value]
        return note

    @contextmanager
    def on_behalf_of(self, nodes: Sequence[Node]) -> Iterator[None]:
        """Steps emitted inside belong to ``nodes`` instead of the current one."""
        before = self._node, self._fused
        self._node, self._fused = None, list(nodes)
        try:
            yield
        finally:
            self._node, self._fused = before

    def fuse(self, node: Node) -> None:
        """Mark ``node`` as computed by the step that is being built for the current one."""
        self.claim([node])
        self._fused.append(node)

    # --- results --------------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """See that every output of the view lies in the caller's memory."""
        from mace_cpu.shared.layouts.blocks import emit_copy

        for value, (user, _) in self._deferred.items():
            raise ValueError(
                f"'{value.name}' was left to node '{user.name}' ({user.op_type}), which did not compute it"
            )
        unsized = {output.index for output in self.unsized}
        for index, value in enumerate(self.view.outputs):
            if index in unsized:
                continue
            buf = self.read(value)
            if self.dtype(value).is_packed:
                from mace_cpu.shared.layouts.packed import emit_packed

                emit_packed(self, value, buf, index)
                continue
            if buf.place is not Place.OUTPUT or buf.index != index or buf.whole is not None:
                target = Buf(Place.OUTPUT, self.nbytes(value), index)
                emit_copy(self, buf, target, self.nbytes(value))

    @property
    def constants(self) -> Sequence[tuple[Buf, npt.NDArray[Any]]]:
        return self._constants
