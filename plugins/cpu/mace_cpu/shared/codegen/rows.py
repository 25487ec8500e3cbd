"""Walking rows of float32 or float64 numbers: vectors, a masked rest, several accumulators, sums across lanes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from llvmlite import ir

from mace_core.native.target import Target
from mace_cpu.shared.codegen.body import F32, I64, Body, constant
from mace_cpu.shared.codegen.vector_basic import F64, I32, allow_features, call, splat, type_suffix
from mace_cpu.shared.codegen.vector_basic import constant as number

UNROLL = 4

Combine = Callable[[ir.IRBuilder, ir.Value, ir.Value], ir.Value]


class RowBody(Body):
    """A kernel body whose vectors hold one float type.

    Attributes:
        scalar: the type of one element.
        itemsize: its bytes.
    """

    def __init__(self, symbol: str, target: Target, dtype: str) -> None:
        self.scalar = F64 if dtype == "float64" else F32
        self.itemsize = 8 if dtype == "float64" else 4
        super().__init__(symbol, target.vector_bits // (8 * self.itemsize))
        allow_features(self.module, target.features)
        self.vector = ir.VectorType(self.scalar, self.lanes)

    def at(self, base: ir.Value, index: ir.Value) -> ir.Value:
        """The address of ``base[index]``."""
        return self.b.gep(base, [index], inbounds=True, source_etype=self.scalar)

    def read(self, base: ir.Value, index: ir.Value, rest: ir.Value | None = None, fill: float = 0.0) -> ir.Value:
        """The vector at ``base[index]``; only its first ``rest`` lanes where that is given, ``fill`` in the others."""
        address = self.at(base, index)
        if rest is None:
            return self.b.load(address, typ=self.vector, align=self.itemsize)
        name = f"llvm.masked.load.{type_suffix(self.vector)}.p0"
        align = ir.Constant(I32, self.itemsize)
        return call(self.b, name, self.vector, [address, align, self.mask(rest), number(self.vector, fill)])

    def write(self, value: ir.Value, base: ir.Value, index: ir.Value, rest: ir.Value | None = None) -> None:
        """Store a vector, or its first ``rest`` lanes, at ``base[index]``."""
        address = self.at(base, index)
        if rest is None:
            self.b.store(value, address, align=self.itemsize)
            return
        name = f"llvm.masked.store.{type_suffix(self.vector)}.p0"
        call(self.b, name, ir.VoidType(), [value, address, ir.Constant(I32, self.itemsize), self.mask(rest)])

    def mask(self, count: ir.Value) -> ir.Value:
        """Lanes below ``count``."""
        kind = ir.VectorType(I64, self.lanes)
        numbers = ir.Constant(kind, list(range(self.lanes)))
        return self.b.icmp_signed("<", numbers, splat(self.b, count, kind))

    def element(self, base: ir.Value, index: ir.Value) -> ir.Value:
        """One element, in all lanes."""
        return splat(self.b, self.b.load(self.at(base, index), typ=self.scalar, align=self.itemsize), self.vector)

    def each(self, length: ir.Value, step: Callable[[ir.Value, ir.Value | None], None]) -> None:
        """``step(index, rest)`` for every vector of a row, ``rest`` being None but for a last one that is not full."""
        rest = self.b.urem(length, constant(self.lanes))
        whole = self.sub(length, rest)
        with self.loop(0, whole, self.lanes) as index:
            step(index, None)
        with self.b.if_then(self.b.icmp_signed(">", rest, constant(0))):
            step(whole, rest)

    def fold(
        self,
        length: ir.Value,
        starts: Sequence[float],
        combine: Sequence[Combine],
        step: Callable[[ir.Value, ir.Value | None], Sequence[ir.Value]],
    ) -> list[ir.Value]:
        """Combine what ``step(index, rest)`` gives for every vector of a row, in several independent accumulators.

        Args:
            length: elements of the row.
            starts: what each accumulator starts from.
            combine: how values join each accumulator; order does not matter to it.
            step: the values of one vector; lanes beyond ``rest`` must be such that combining them changes nothing.

        Returns:
            For each accumulator the combination over the whole row, in all lanes.
        """
        lanes = self.fold_lanes(length, starts, combine, step)
        return [self.across(each, function) for each, function in zip(lanes, combine, strict=True)]

    def fold_lanes(
        self,
        length: ir.Value,
        starts: Sequence[float],
        combine: Sequence[Combine],
        step: Callable[[ir.Value, ir.Value | None], Sequence[ir.Value]],
    ) -> list[ir.Value]:
        """As `fold`, but the lanes of each accumulator are not combined with each other."""
        sums = [[self.variable(self.vector) for _ in range(UNROLL)] for _ in starts]
        for start, copies in zip(starts, sums, strict=True):
            for copy in copies:
                self.b.store(number(self.vector, start), copy)

        def join(index: ir.Value, rest: ir.Value | None, copy: int) -> None:
            for value, function, copies in zip(step(index, rest), combine, sums, strict=True):
                self.b.store(function(self.b, self.held(copies[copy]), value), copies[copy])

        stride = self.lanes * UNROLL
        long = self.sub(length, self.b.urem(length, constant(stride)))
        with self.loop(0, long, stride) as index:
            for copy in range(UNROLL):
                join(self.add(index, copy * self.lanes), None, copy)
        rest = self.b.urem(length, constant(self.lanes))
        whole = self.sub(length, rest)
        with self.loop(long, whole, self.lanes) as index:
            join(index, None, 0)
        with self.b.if_then(self.b.icmp_signed(">", rest, constant(0))):
            join(whole, rest, 1)
        results = []
        for function, copies in zip(combine, sums, strict=True):
            parts = [self.held(copy) for copy in copies]
            while len(parts) > 1:
                parts = [function(self.b, a, b) for a, b in zip(parts[::2], parts[1::2], strict=True)]
            results.append(parts[0])
        return results

    def across(self, value: ir.Value, combine: Combine) -> ir.Value:
        """All lanes combined, the result in every lane."""
        distance = self.lanes // 2
        while distance:
            turned = self.shuffle(value, value, [lane ^ distance for lane in range(self.lanes)])
            value = combine(self.b, value, turned)
            distance //= 2
        return value

    def held(self, variable: ir.Value) -> ir.Value:
        """The vector in a local variable."""
        return self.b.load(variable, typ=self.vector)

    def first_lane(self, value: ir.Value) -> ir.Value:
        return self.b.extract_element(value, ir.Constant(I32, 0))

    def selected(self, value: ir.Value, rest: ir.Value | None, other: float) -> ir.Value:
        """``value`` in the lanes below ``rest``, ``other`` beyond."""
        return value if rest is None else self.b.select(self.mask(rest), value, number(self.vector, other))

    def real(self, index: int) -> ir.Value:
        """Argument word ``index``, the bits of a float64, in all lanes."""
        wide = self.b.bitcast(self.word(index), F64)
        return splat(self.b, wide if self.scalar == F64 else self.b.fptrunc(wide, F32), self.vector)


def plus(builder: ir.IRBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
    return builder.fadd(x, y)


def larger(builder: ir.IRBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
    """The larger of two floats (one of them where the other is NaN)."""
    return builder.select(builder.fcmp_ordered(">", x, y), x, y)
