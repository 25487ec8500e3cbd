"""The plans of a model for a library: one for each signature, and as many for a range as its sizes need."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from mace_core.ahead_of_time.ranges import ShapeRange, Size, SizeRange, shape_text
from mace_core.errors import InputError, ModelError, UnsupportedError
from mace_core.graph import Value
from mace_core.native.library_words import CopyKind
from mace_core.native.program import NativeProgram
from mace_core.scheduler.planning.placement import PlacedStage
from mace_core.scheduler.planning.stages import Stage
from mace_core.symbolic import SizeProgramBuilder, Trace, is_symbolic, new_symbol, polynomial_of
from mace_core.symbolic.polynomial import Polynomial
from mace_core.symbolic.program import Op
from mace_core.symbolic.trace import SMALLEST_SIZE
from mace_core.tensor import DType, Tensor, TensorType, ValueType
from mace_core.tensor.symbolic import SymbolicTensor

Words = npt.NDArray[np.int64]

MOST_VARIANTS = 64
"""Of one model: more would make a library that is mostly tables."""

MOST_SIZES = 4_000_000
"""Combinations of sizes that a range may have: each is tried."""

_AT_ONCE = 4096


class Sized(NamedTuple):
    """A number, or the register that holds one."""

    is_register: bool
    value: int


class Copy(NamedTuple):
    """An output that no step computes.

    Attributes:
        kind: what it is.
        source: the number of an input or an output; of a constant nothing.
        target: the number of the output.
        content: of a constant.
    """

    kind: CopyKind
    source: int
    target: int
    content: bytes = b""


@dataclass(slots=True, eq=False)
class Variant:
    """A plan, and which shapes it is for.  Dimensions are numbered through all inputs.

    Attributes:
        program: None where nothing is computed.
        symbols: for each the dimension, and how many of it a unit of the symbol is.
        fixed: dimensions that must be a number.
        equal: pairs of dimensions that must be equal.
        rows: of its size program, see `mace_core.symbolic.program`.
        guards: register, whether it is asked if that is less than 0 (or is 0), what the answer must be.
        output_dims: of all outputs, one after the other.
        arena: bytes.
        inputs, outputs: for each of the program's the number of the model's.
        copies: outputs that no step computes.
    """

    program: NativeProgram | None
    symbols: tuple[tuple[int, int], ...]
    fixed: tuple[tuple[int, int], ...]
    equal: tuple[tuple[int, int], ...]
    rows: Words
    guards: tuple[tuple[int, bool, bool], ...]
    output_dims: tuple[Sized, ...]
    arena: Sized
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    copies: tuple[Copy, ...] = ()

    def registers(self, dims: Words) -> Words:
        """All registers for several shapes at once: (registers, shapes)."""
        found = np.zeros((len(self.symbols) + len(self.rows), dims.shape[1]), np.int64)
        for number, (dim, step) in enumerate(self.symbols):
            found[number] = dims[dim] // step
        for number, (op, left, right) in enumerate(self.rows.tolist(), len(self.symbols)):
            found[number] = _COMPUTE[op](found, left, right)
        return found

    def admits(self, dims: Words, registers: Words) -> npt.NDArray[np.bool_]:
        """For which of several shapes (dimensions, shapes) it is."""
        answer = np.ones(dims.shape[1], bool)
        for dim, value in self.fixed:
            answer &= dims[dim] == value
        for first, second in self.equal:
            answer &= dims[first] == dims[second]
        for dim, step in self.symbols:
            answer &= dims[dim] % step == 0
        for register, is_less, wanted in self.guards:
            value = registers[register]
            answer &= (value < 0 if is_less else value == 0) == wanted
        return answer


def _divided(left: Words, right: Words | int) -> Words:
    safe = np.where(np.equal(right, 0), 1, right)
    answer: Words = np.where(np.equal(right, 0), 0, left // safe)
    return answer


_COMPUTE: dict[int, Callable[[Words, int, int], Words | int]] = {
    Op.NUMBER: lambda r, a, b: b,
    Op.ADD: lambda r, a, b: r[a] + r[b],
    Op.ADD_N: lambda r, a, b: r[a] + b,
    Op.MULTIPLY: lambda r, a, b: r[a] * r[b],
    Op.MULTIPLY_N: lambda r, a, b: r[a] * b,
    Op.FLOOR_DIVIDE: lambda r, a, b: _divided(r[a], r[b]),
    Op.FLOOR_DIVIDE_N: lambda r, a, b: _divided(r[a], b),
    Op.MINIMUM: lambda r, a, b: np.minimum(r[a], r[b]),
    Op.MAXIMUM: lambda r, a, b: np.maximum(r[a], r[b]),
}

Place = Callable[[Mapping[Value, ValueType], "Trace | None"], "tuple[Stage, PlacedStage]"]
"""Places and compiles a model for the types of its inputs."""


Axis: TypeAlias = "tuple[SizeRange, list[int]]"
"""A range, and the dimensions that it is for, counted over all inputs."""


@dataclass(slots=True, eq=False)
class Signature:
    """The shapes that a model is built for at one time, and the plans for them.

    Attributes:
        shapes: of each input, in order.
        variants: made for them.
        largest_outputs, smallest_outputs: of all output dimensions, over all shapes.
        arena_bytes: the most that any of the shapes needs.
        output_ranks: numbers of dimensions.
        equal: dimensions that are one size, since the model takes no others: ``input_1[0] = input_2[0]``.
    """

    shapes: tuple[ShapeRange, ...]
    variants: list[Variant] = field(default_factory=list)
    largest_outputs: list[int] = field(default_factory=list)
    smallest_outputs: list[int] = field(default_factory=list)
    arena_bytes: int = 0
    output_ranks: tuple[int, ...] = ()
    equal: str = ""

    def text(self, inputs: Sequence[Value]) -> str:
        """``x=1x3x48x320..640``."""
        return ", ".join(f"{value.name}={shape_text(s)}" for value, s in zip(inputs, self.shapes, strict=True))


class VariantMaker:
    """Makes the plans of one model."""

    def __init__(self, label: str, inputs: Sequence[Value], outputs: Sequence[Value], place: Place) -> None:
        self._label = label
        self._inputs = inputs
        self._outputs = outputs
        self._place = place

    def make(self, shapes: Sequence[ShapeRange], made_already: int) -> Signature:
        """The plans for one signature.

        Args:
            shapes: of each input.
            made_already: how many plans the model has of other signatures.

        Raises:
            UnsupportedError: if too many would be needed, or the model is of a kind that no library can be made of.
            ModelError: if the model does not take one of the shapes.
        """
        axes = self._axes(shapes)
        try:
            return self._for(shapes, axes, made_already)
        except (InputError, ModelError) as error:
            one = self._of_one_size(shapes, axes)
            if len(one) < len(axes):
                with contextlib.suppress(InputError, ModelError):
                    made = self._for(shapes, one, made_already)
                    made.equal = self._told(shapes, one)
                    return made
            if not axes:
                raise
            raise (ModelError if isinstance(error, ModelError) else InputError)(
                f"{error} (the model has to take every size in {self._text(shapes)}: give steps, like 32..640:32, or "
                "single shapes)"
            ) from error

    def _for(self, shapes: Sequence[ShapeRange], axes: Sequence[Axis], made_already: int) -> Signature:
        signature = Signature(tuple(shapes))
        counts = [(axis.largest - axis.smallest) // axis.step + 1 for axis, _ in axes]
        total = int(np.prod(counts, dtype=object))
        if total > MOST_SIZES:
            raise UnsupportedError(
                f"{self._label}: the ranges of sizes have {total} combinations, and each is tried when a library is "
                f"built: at most {MOST_SIZES}; give narrower ranges, or steps (320..640:32)"
            )
        choices = [np.arange(axis.smallest, axis.largest + 1, axis.step, dtype=np.int64) for axis, _ in axes]
        combinations = [grid.reshape(-1) for grid in np.meshgrid(*choices, indexing="ij")]
        dims = np.zeros((sum(map(len, shapes)), total), np.int64)
        flat = [size for shape in shapes for size in shape]
        for number, size in enumerate(flat):
            if not isinstance(size, SizeRange):
                dims[number] = size
        for row, (_, members) in zip(combinations, axes, strict=True):
            dims[members] = row
        open_ = np.ones(total, bool)
        while open_.any():
            if made_already + len(signature.variants) >= MOST_VARIANTS:
                raise UnsupportedError(
                    f"{self._label}: the shapes {self._text(shapes)} need more than {MOST_VARIANTS} plans; give "
                    "narrower ranges, or steps (320..640:32)"
                )
            at = int(np.flatnonzero(open_)[-1])
            variant, ranks = self._made(shapes, axes, dims[:, at])
            signature.output_ranks = signature.output_ranks or ranks
            if ranks != signature.output_ranks:
                raise UnsupportedError(f"{self._label}: an output has another number of dimensions for other sizes")
            admitted = self._measure(signature, variant, dims, open_)
            if not admitted[at]:
                raise UnsupportedError(
                    f"{self._label}: the plan made for the sizes {self._text_of(shapes, dims[:, at])} does not hold "
                    "for them; give these sizes as a signature of their own, without a range"
                )
            open_ &= ~admitted
            signature.variants.append(variant)
        return signature

    def _of_one_size(self, shapes: Sequence[ShapeRange], axes: Sequence[Axis]) -> list[Axis]:
        """The ranges, where equal ones of several inputs are one: a model may ask for that without giving them a name.

        Of one input, ranges stay apart: its height and width.
        """
        owners = [number for number, shape in enumerate(shapes) for _ in shape]
        found: list[Axis] = []
        seen: dict[tuple[SizeRange, int], int] = {}
        groups: dict[tuple[SizeRange, int], list[int]] = {}
        for axis, members in axes:
            owner = owners[members[0]]
            turn = seen[axis, owner] = seen.get((axis, owner), -1) + 1
            if (axis, turn) in groups:
                groups[axis, turn] += members
            else:
                groups[axis, turn] = group = list(members)
                found.append((axis, group))
        return found

    def _told(self, shapes: Sequence[ShapeRange], axes: Sequence[Axis]) -> str:
        """``input_1[0] = input_2[0]``."""
        places = [
            f"{v.name}[{axis}]" for v, shape in zip(self._inputs, shapes, strict=True) for axis in range(len(shape))
        ]
        return ", ".join(" = ".join(places[member] for member in members) for _, members in axes if len(members) > 1)

    def _axes(self, shapes: Sequence[ShapeRange]) -> list[Axis]:
        """The ranges, each with the dimensions that it is for: those of one name and range are one."""
        found: list[Axis] = []
        named: dict[tuple[str, SizeRange], list[int]] = {}
        number = 0
        for value, shape in zip(self._inputs, shapes, strict=True):
            declared = value.type.shape if isinstance(value.type, TensorType) else None
            for axis, size in enumerate(shape):
                if isinstance(size, SizeRange):
                    name = declared[axis] if declared is not None and axis < len(declared) else None
                    key = (name, size) if isinstance(name, str) else None
                    if key is not None and key in named:
                        named[key].append(number)
                    else:
                        members = [number]
                        found.append((size, members))
                        if key is not None:
                            named[key] = members
                number += 1
        return found

    def _made(self, shapes: Sequence[ShapeRange], axes: Sequence[Axis], dims: Words) -> tuple[Variant, tuple[int, ...]]:
        """A plan made for one combination of sizes; symbols stand for those that may vary."""
        sizes: list[int] = [int(size) for size in dims]
        trace = Trace()
        symbols: list[tuple[int, int]] = []
        equal: list[tuple[int, int]] = []
        varying: set[int] = set()
        made: list[tuple[list[int], int, int]] = []
        for axis, members in axes:
            units = sizes[members[0]] // axis.step
            least = max(axis.smallest // axis.step, SMALLEST_SIZE if axis.step == 1 else 1)
            if units < least:
                continue  # a size of 1 is a number
            name = f"{self._name_of(members[0], shapes)}" + (f"/{axis.step}" if axis.step != 1 else "")
            made.append((members, new_symbol(trace, name, units, least, axis.largest // axis.step), axis.step))
            symbols.append((members[0], axis.step))
            equal += [(members[0], other) for other in members[1:]]
            varying.update(members)
        for members, symbol, step in made:
            for member in members:
                sizes[member] = symbol * step
        fixed = tuple((number, int(size)) for number, size in enumerate(dims) if number not in varying)
        types: dict[Value, ValueType] = {}
        rest = iter(sizes)
        for value, shape in zip(self._inputs, shapes, strict=True):
            assert isinstance(value.type, TensorType)
            types[value] = TensorType(value.type.dtype, tuple(itertools.islice(rest, len(shape))))
        stage, placed = self._place(types, trace if symbols else None)
        try:
            variant = self._described(stage, placed, trace if symbols else None, tuple(symbols), fixed, tuple(equal))
            return variant, tuple(len(_shape_of(value, stage)) for value in self._outputs)
        finally:
            placed.close()

    def _described(
        self,
        stage: Stage,
        placed: PlacedStage,
        trace: Trace | None,
        symbols: tuple[tuple[int, int], ...],
        fixed: tuple[tuple[int, int], ...],
        equal: tuple[tuple[int, int], ...],
    ) -> Variant:
        program = self._program(placed)
        own = _OwnRows(program, trace, len(symbols))
        output_dims = tuple(own.size(size) for value in self._outputs for size in _shape_of(value, stage))
        arena = own.size(0 if program is None else program.workspace_bytes)
        guards: list[tuple[int, bool, bool]] = []
        if trace is not None:
            guards = [(own.register(g.expression), g.relation == "<", g.outcome) for g in trace.conditions()]
        rows = own.finish()
        if trace is not None:
            largest = trace.largest_symbol()
            trace.close()
            if any(atom.hint > largest for atom in trace.atoms[: len(symbols)]):
                raise UnsupportedError(f"{self._label}: the sizes are too large to compute with 64 bits")
        names = {value.name: number for number, value in reversed(list(enumerate(self._inputs)))}
        outputs = {value.name: number for number, value in reversed(list(enumerate(self._outputs)))}
        computed = () if program is None else tuple(program.outputs)
        return Variant(
            program,
            symbols,
            fixed,
            equal,
            rows,
            tuple(guards),
            output_dims,
            arena,
            () if program is None else tuple(names[name] for name in program.inputs),
            tuple(outputs[name] for name in computed),
            tuple(self._copies(stage, outputs, names, computed)),
        )

    def _program(self, placed: PlacedStage) -> NativeProgram | None:
        from mace_core.native.program import HasProgram

        if not placed.compiled:
            return None
        (compiled,) = placed.compiled
        if not isinstance(compiled, HasProgram):
            raise UnsupportedError(f"{self._label}: what was compiled has no form that a library could be made of")
        program = compiled.program()
        if program.unsized:
            raise UnsupportedError(
                f"{self._label}: the shape of the output '{program.unsized[0]}' depends on what is fed, and a library "
                "has outputs of known shapes; cut the model before it"
            )
        return program

    def _copies(
        self, stage: Stage, outputs: Mapping[str, int], inputs: Mapping[str, int], computed: Sequence[str]
    ) -> list[Copy]:
        found = []
        for number, value in enumerate(self._outputs):
            if value.name in computed:
                if outputs[value.name] != number:
                    found.append(Copy(CopyKind.OUTPUT, outputs[value.name], number))
                continue
            if value.name in inputs:
                found.append(Copy(CopyKind.INPUT, inputs[value.name], number))
                continue
            content = value.constant if value.constant is not None else stage.known.get(value)
            if content is None or isinstance(content, SymbolicTensor):
                raise UnsupportedError(
                    f"{self._label}: the output '{value.name}' follows from the shapes of the inputs alone, which a "
                    "library for a range of shapes does not compute; leave it out of the model, or the range"
                )
            found.append(Copy(CopyKind.CONSTANT, 0, number, _bytes_of(content)))
        return found

    def _measure(
        self, signature: Signature, variant: Variant, dims: Words, open_: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.bool_]:
        """For which shapes a plan is; and what they need goes into the signature."""
        admitted = np.zeros(dims.shape[1], bool)
        for first in range(0, dims.shape[1], _AT_ONCE):
            part = dims[:, first : first + _AT_ONCE]
            registers = variant.registers(part)
            holds = variant.admits(part, registers)
            admitted[first : first + _AT_ONCE] = holds
            new = holds & open_[first : first + _AT_ONCE]
            if not new.any():
                continue
            arena, *outputs = (
                registers[size.value][new] if size.is_register else np.array([size.value])
                for size in (variant.arena, *variant.output_dims)
            )
            signature.arena_bytes = max(signature.arena_bytes, int(arena.max()))
            largest, smallest = [int(each.max()) for each in outputs], [int(each.min()) for each in outputs]
            signature.largest_outputs = list(map(max, signature.largest_outputs or largest, largest))
            signature.smallest_outputs = list(map(min, signature.smallest_outputs or smallest, smallest))
        return admitted

    def _name_of(self, dim: int, shapes: Sequence[ShapeRange]) -> str:
        for value, shape in zip(self._inputs, shapes, strict=True):
            if dim < len(shape):
                return f"{value.name}.{dim}"
            dim -= len(shape)
        raise IndexError(dim)

    def _text(self, shapes: Sequence[Sequence[Size]]) -> str:
        return ", ".join(f"{value.name}={shape_text(s)}" for value, s in zip(self._inputs, shapes, strict=True))

    def _text_of(self, shapes: Sequence[ShapeRange], dims: Words) -> str:
        rest = iter(dims.tolist())
        return self._text([tuple(itertools.islice(rest, len(shape))) for shape in shapes])


class _OwnRows:
    """Rows for guards and shapes behind those that a program has of its own."""

    def __init__(self, program: NativeProgram | None, trace: Trace | None, symbols: int) -> None:
        self._rows = np.zeros((0, 3), np.int64)
        if program is not None and program.sizes is not None:
            self._rows = program.sizes.program.rows
        self._builder = None if trace is None else SizeProgramBuilder(trace)
        self._symbols = symbols

    def size(self, size: int) -> Sized:
        # what is symbolic passes for an int, too
        return Sized(True, self.register(polynomial_of(size))) if is_symbolic(size) else Sized(False, int(size))

    def register(self, expression: Polynomial) -> int:
        assert self._builder is not None
        return self._moved(self._builder.register(expression))

    def _moved(self, register: int) -> int:
        return register if register < self._symbols else register + len(self._rows)

    def finish(self) -> Words:
        if self._builder is None:
            return self._rows
        more = []
        for op, left, right in self._builder.finish().rows.tolist():
            of_two = op in (Op.ADD, Op.MULTIPLY, Op.FLOOR_DIVIDE, Op.MINIMUM, Op.MAXIMUM)
            more.append((op, self._moved(left), self._moved(right) if of_two else right))
        return np.concatenate([self._rows, np.array(more, np.int64).reshape(-1, 3)])


def _shape_of(value: Value, stage: Stage) -> tuple[int, ...]:
    """The shape of an output, whose sizes may be expressions."""
    found = stage.types.get(value, value.type)
    if not isinstance(found, TensorType):
        raise ModelError(f"the output '{value.name}' of the model is no tensor")
    return found.concrete_shape


def _bytes_of(content: Tensor) -> bytes:
    return np.ascontiguousarray(content.numpy()).tobytes()


SUPPORTED_TYPES = frozenset(
    {
        DType.FLOAT32, DType.FLOAT64, DType.FLOAT16, DType.BFLOAT16, DType.BOOL,
        DType.INT8, DType.INT16, DType.INT32, DType.INT64,
        DType.UINT8, DType.UINT16, DType.UINT32, DType.UINT64,
    }
)  # fmt: skip
"""Of inputs and outputs: what ``mace_type`` names."""
