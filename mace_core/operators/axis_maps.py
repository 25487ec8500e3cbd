"""How the axes of a node's inputs and outputs go together: what its results are when its inputs have their axes in
another order.

A node computes over an *iteration space*.  Each of its inputs and outputs has some of the axes of that space.  If all
of them are reordered alike, and what names axes is changed with them, the node computes the same numbers.

Rules are registered with `mace_core.operators.registry.axis_map`.  They see an `AxesContext` in which sizes may be
symbolic, and must be right for every size: they go by ranks and attributes, and by sizes that are numbers.  They may
raise `UnresolvedShapeError` or `ShapeMismatchError`, or return None, where they cannot tell.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from mace_core.operators.independence import AxesContext

Groups: TypeAlias = "tuple[tuple[int, ...], ...]"
"""For each axis of the iteration space the axes of an input or output that belong to it, in order; most often one."""

Side: TypeAlias = Literal["input", "output"]
"""Whose axes are counted: those of input 0, or those of output 0."""


@dataclass(frozen=True, slots=True)
class AxisNames:
    """An attribute, or a constant input, that names axes.

    Attributes:
        where: the attribute, or the index of the input.
        axes: the axes as they are now, counted from the front.
        of: whose axes they are.
        plural: whether it is a list; else ``axes`` is one.
    """

    where: str | int
    axes: tuple[int, ...]
    of: Side = "input"
    plural: bool = False


@dataclass(frozen=True, slots=True)
class PerAxis:
    """An attribute, or an input, that lists something for every axis; ``parts`` times, one list after the other."""

    where: str | int
    parts: int = 1
    of: Side = "input"


@dataclass(frozen=True, slots=True)
class NewShape:
    """The sizes of the output in the order of its axes, -1 for at most one of them; the node is to be a Reshape."""

    sizes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SizesRead:
    """The output lists sizes of input 0: those of ``axes``."""

    axes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class AsConvolution:
    """Where the last axis of the iteration space, which is multiplied with the matrix that is input 1, comes to stand
    second, the node is to be a convolution with windows of one element.

    Attributes:
        operator: which one.
    """

    operator: str


Edit: TypeAlias = "AxisNames | PerAxis | NewShape | SizesRead | AsConvolution"


@dataclass(frozen=True, slots=True)
class AxisMap:
    """The iteration space of a node.

    Attributes:
        count: its axes.  In their order, the axes of each input and output are in order too.
        inputs: the axes of inputs.  One that is not among them stays as it is.  Where an input is broadcast, its axes
            are counted after those of size 1 that are put in front of them.
        outputs: the axes of outputs; one that is not among them stays as it is.
        pinned: axes of the iteration space that keep their place.
        movable: pinned axes that may have one other place instead.
        broadcast: for inputs that are broadcast, how many axes of size 1 are put in front.
        edits: what names axes.
        along: the axis of the iteration space along which parts are joined, or one part is taken.  Where no axis before
            it is larger than 1, a part is one piece of memory, and may be used where it lies.
    """

    count: int
    inputs: Mapping[int, Groups]
    outputs: Mapping[int, Groups]
    pinned: frozenset[int] = frozenset()
    broadcast: Mapping[int, int] = field(default_factory=dict)
    edits: tuple[Edit, ...] = ()
    along: int | None = None
    movable: Mapping[int, int] = field(default_factory=dict)

    def admits(self, order: Sequence[int]) -> bool:
        """Whether pinned axes have their places."""
        return all(order[axis] == axis or order[self.movable.get(axis, axis)] == axis for axis in self.pinned)


def singles(rank: int) -> Groups:
    """Every axis by itself."""
    return tuple((axis,) for axis in range(rank))


def same_order(
    ctx: AxesContext,
    *edits: Edit,
    inputs: Iterable[int] = (0,),
    outputs: Collection[int] | None = None,
    pinned: Iterable[int] = (),
    along: int | None = None,
    movable: Mapping[int, int] | None = None,
) -> AxisMap:
    """Of an operator whose ``inputs`` and ``outputs`` (all unless given) have the axes of input 0."""
    own = singles(len(ctx.shape(0)))
    chosen = ctx.outputs if outputs is None else outputs
    places = dict.fromkeys(inputs, own), dict.fromkeys(chosen, own)
    return AxisMap(len(own), *places, pinned=frozenset(pinned), edits=edits, along=along, movable=dict(movable or {}))


def broadcast_order(ctx: AxesContext, *, pinned: Iterable[int] = (), edits: tuple[Edit, ...] = ()) -> AxisMap:
    """Of an operator whose inputs are broadcast to output 0 (numpy's rules)."""
    rank = len(ctx.result())
    inputs, broadcast = {}, {}
    for index in range(ctx.input_count):
        if not ctx.has(index):
            continue
        lead = rank - len(ctx.shape(index))
        inputs[index] = (*((),) * lead, *((axis,) for axis in range(lead, rank)))
        broadcast[index] = lead
    outputs = dict.fromkeys(ctx.outputs, singles(rank))
    return AxisMap(rank, inputs, outputs, pinned=frozenset(pinned), broadcast=broadcast, edits=edits)


def without(rank: int, gone: Collection[int]) -> Groups:
    """The axes of a result that lacks some of ``rank`` axes."""
    kept = [axis for axis in range(rank) if axis not in gone]
    return tuple(() if axis in gone else (kept.index(axis),) for axis in range(rank))
