"""The code of a requantization: from vectors of int32 sums to numbers of 8 or 16 bits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from llvmlite import ir

from mace_cpu.shared.codegen.body import I8, I32, I64, POINTER, Body
from mace_cpu.shared.codegen.vector_basic import at_least, at_most, call, constant, fma, intrinsic, may_use, splat
from mace_cpu.shared.epilogue.generate import EpilogueCode
from mace_cpu.shared.epilogue.requantize import (
    ADD_FLOATS,
    BYTES_OF,
    STEP_FIRST,
    WORDS,
    WORDS_OF,
    Following,
    Requantization,
)

I16 = ir.IntType(16)
FAR = 1e9
"""Beyond every number of 16 bits, and within int32."""

CURRENT_ROUNDING = 4

RADIX_BITS, RADIX = 8, 256
"""Between the parts of wide sums."""


_PACKS = (
    {4: "llvm.x86.sse41.packusdw", 8: "llvm.x86.avx2.packusdw", 16: "llvm.x86.avx512.packusdw.512"},
    {4: "llvm.x86.sse2.packssdw.128", 8: "llvm.x86.avx2.packssdw", 16: "llvm.x86.avx512.packssdw.512"},
)
"""What packs int32 to words: unsigned ones, signed ones."""


def code_type(label: str) -> ir.IntType:
    """The type of quantized numbers, as code has it."""
    return ir.IntType(8 * BYTES_OF[label])


def is_signed(label: str) -> bool:
    """Whether numbers of this type have a sign."""
    return not label.startswith("u")


@dataclass(frozen=True, slots=True)
class FloatLoads:
    """How operands of operations in float32 are loaded, given their address and which vector of sums they belong to.

    Attributes:
        channel: of operands per channel.
        tensor: of operands as large as the result.
    """

    channel: Callable[[ir.Value, int], ir.Value]
    tensor: Callable[[ir.Value, int], ir.Value]


class RequantizeCode:
    """The requantization of a kernel, whose words come last.

    Attributes:
        spec: what it does.
    """

    def __init__(self, body: Body, first: int, spec: Requantization, *, is_x86: bool) -> None:
        """
        Args:
            body: of the kernel, where its argument words are loaded.
            first: the first of the words.
            spec: what is done.
        """
        self.body, self.spec, self._is_x86 = body, spec, is_x86
        self._ints = ir.VectorType(I32, body.lanes)
        self._zero, self._low, self._high = (body.word(first + i) for i in range(WORDS))
        self._reach = [body.sub(limit, self._zero) for limit in (self._low, self._high)]
        self._words: list[list[ir.Value]] = []
        first += WORDS
        if spec.step:
            self._steps = body.pointer(first)
            first += 1
        if spec.floats is not None:
            self._inverse = body.number(first)
            self._floats = EpilogueCode(body, first + 1, spec.floats.ops)
            first += spec.floats.words
            encodings = first - 2 * len(spec.floats.tensors)
            self._encodings = [
                (body.number(encodings + 2 * i), body.number(encodings + 2 * i + 1))
                for i in range(len(spec.floats.tensors))
            ]
        for op in spec.following:
            count = WORDS_OF[op.kind]
            self._words.append([self._word(first, i) for i in range(count)])
            first += count

    def _word(self, first: int, i: int) -> ir.Value:
        if i == 0:
            return self.body.pointer(first)
        return self.body.number(first + i) if i in ADD_FLOATS else self.body.word(first + i)

    def to_numbers(
        self,
        sums: Sequence[ir.Value],
        scale: Callable[[int], ir.Value],
        bias: Callable[[int], ir.Value],
        other: Callable[[ir.Value, ir.Type], ir.Value],
        *,
        low: Sequence[ir.Value] | None = None,
        column: Callable[[ir.Value, ir.Type], ir.Value] | None = None,
        floats: FloatLoads | None = None,
        interleaved: bool = False,
        row: ir.Value | None = None,
    ) -> ir.Value:
        """One to four vectors of sums as one vector of quantized numbers, in order.

        Args:
            scale, bias: load the vector of factors, or of float biases, of a vector of sums.
            other: loads numbers of another tensor, given its address, that belong to these sums.
            low: the low parts of wide sums.
            column: as ``other``, for operands with a number per channel, where there are such.
            floats: load the operands of operations in float32, if there are such.
            interleaved: of every 16 bytes of the result, each of the vectors of sums holds as many; not with floats.
            row: which of the sizes of steps it is, where there are such; None for the first.
        """
        numbers = self.to_floats(sums, scale, bias, other, floats, low=low, row=row)
        if self.spec.floats is not None:
            inverse = splat(self.body.b, self._inverse, self.body.vector)
            numbers = [self.body.b.fmul(number, inverse) for number in numbers]
        whole = [self._rounded(number, far=self.spec.far) for number in numbers]

        def operand(op: Following) -> Callable[[ir.Value, ir.Type], ir.Value]:
            return column if op.per_column and column is not None else other

        following = list(zip(self.spec.following, self._words, strict=True))
        if following and following[0][0].kind == "add" and not interleaved:
            op, words = following.pop(0)
            found = self._added(self._distances(whole), op, words, operand(op))
            held = op.result
        else:
            limits = (self._low, self._high) if self.spec.bounded else None
            found = self._narrow(whole, self._zero, self.spec.result, limits, interleaved=interleaved)
            held = self.spec.result
        for op, words in following:
            if op.kind == "table":
                found = self._looked_up(found, words[0])
            else:
                found = self._added(self._widened(found, held, words[1]), op, words, operand(op))
            held = op.result
        return found

    def floats_to_numbers(self, numbers: Sequence[ir.Value]) -> ir.Value:
        """One to four vectors of floats, in steps of the result from its zero point, as one vector of numbers."""
        limits = (self._low, self._high) if self.spec.bounded else None
        return self._narrow(
            [self._rounded(number, far=self.spec.far) for number in numbers], self._zero, self.spec.result, limits
        )

    def to_floats(
        self,
        sums: Sequence[ir.Value],
        scale: Callable[[int], ir.Value],
        bias: Callable[[int], ir.Value],
        other: Callable[[ir.Value, ir.Type], ir.Value],
        floats: FloatLoads | None = None,
        *,
        low: Sequence[ir.Value] | None = None,
        row: ir.Value | None = None,
    ) -> list[ir.Value]:
        """Vectors of sums as float32, with what is done to them in float32; arguments as for `to_numbers`."""
        b, spec = self.body.b, self.spec
        numbers = []
        if spec.step:
            at = self._steps if row is None else self.body.floats(self._steps, row)
            step = splat(b, b.load(at, typ=ir.FloatType(), align=4), self.body.vector)
        for v, total in enumerate(sums):
            number = self._as_float(total, None if low is None else low[v])
            if spec.step == STEP_FIRST:
                number = b.fmul(number, step)
                numbers.append(fma(b, number, scale(v), bias(v)) if spec.float_bias else b.fmul(number, scale(v)))
                continue
            number = b.fmul(number, scale(v))
            if spec.step:
                number = b.fmul(number, step)
            numbers.append(b.fadd(number, bias(v)) if spec.float_bias else number)
        if spec.floats is None or not spec.floats.ops:
            return numbers
        assert floats is not None
        code, loads = self._floats, floats
        tensors: list[list[ir.Value]] = []
        for address, kind, (zero, factor) in zip(code.tensors, spec.floats.tensors, self._encodings, strict=True):
            if kind == "float32":
                tensors.append([loads.tensor(address, v) for v in range(len(sums))])
                continue
            codes = other(address, ir.VectorType(code_type(kind), len(sums) * self.body.lanes))
            factors = splat(b, factor, self.body.vector)
            tensors.append([b.fmul(part, factors) for part in self._widened(codes, kind, zero)])
        return [
            code.emit(
                b,
                number,
                channel=lambda i, v=v: loads.channel(code.channels[i], v),  # type: ignore[misc]
                tensor=lambda i, v=v: tensors[i][v],  # type: ignore[misc]
            )
            for v, number in enumerate(numbers)
        ]

    # --- single steps ---------------------------------------------------------------------------------------------

    def _as_float(self, total: ir.Value, low: ir.Value | None) -> ir.Value:
        """Sums as float32; ``low``: the low parts of wide ones."""
        b, vector = self.body.b, self.body.vector
        if low is None:
            return b.sitofp(total, vector)
        if self.spec.carries:
            carry = b.ashr(low, constant(self._ints, RADIX_BITS))
            total, low = b.add(total, carry), b.and_(low, constant(self._ints, RADIX - 1))
        # multiplying by 256 is exact: fused or not, the result is the same
        return fma(b, b.sitofp(total, vector), constant(vector, float(RADIX)), b.sitofp(low, vector))

    def _rounded(self, number: ir.Value, *, far: bool = False) -> ir.Value:
        """float32 to int32, to nearest even."""
        b = self.body.b
        if far:
            number = at_most(b, at_least(b, number, constant(number.type, -FAR)), constant(number.type, FAR))
        if not self._is_x86:
            whole = intrinsic(b, "llvm.roundeven", number)
            return call(b, f"llvm.fptosi.sat.v{self.body.lanes}i32.v{self.body.lanes}f32", self._ints, [whole])
        if self.body.lanes == 4:
            return call(b, "llvm.x86.sse2.cvtps2dq", self._ints, [number])
        if self.body.lanes == 8:
            return call(b, "llvm.x86.avx.cvt.ps2dq.256", self._ints, [number])
        every = ir.Constant(I16, -1)
        rounding = ir.Constant(I32, CURRENT_ROUNDING)
        none = ir.Constant(self._ints, None)
        return call(b, "llvm.x86.avx512.mask.cvtps2dq.512", self._ints, [number, none, every, rounding])

    def _narrow(
        self,
        whole: Sequence[ir.Value],
        zero: ir.Value,
        result: str,
        limits: tuple[ir.Value, ir.Value] | None,
        *,
        interleaved: bool = False,
    ) -> ir.Value:
        """Vectors of int32, plus ``zero``, saturated to 8 or 16 bits and bounded."""
        if BYTES_OF[result] > 1:
            return self._narrow_to_words(whole, zero, result, limits, interleaved=interleaved)
        b, body = self.body.b, self.body
        has_sign = is_signed(result)
        count = len(whole)
        padded = [whole[min(i, count - 1)] for i in range(4)]
        if self._is_x86:
            words = [self._packed_words(padded[0], padded[1])]
            words.append(words[0] if count <= 2 else self._packed_words(padded[2], padded[3]))
            shift = splat(b, b.trunc(zero, I16), words[0].type)
            words = [intrinsic(b, "llvm.sadd.sat", half, shift) for half in words]
            found = self._packed_bytes(words[0], words[1], has_sign)
            if not interleaved or count < 4:
                groups = range(body.lanes // 4)
                order = [group * 4 + v for v in range(count) for group in groups]
                if interleaved:
                    order = [group * 4 + v for group in groups for v in range(count)]
                quads = b.bitcast(found, self._ints)
                if order != list(range(body.lanes)):
                    quads = body.shuffle(quads, quads, order)
                found = b.bitcast(quads, ir.VectorType(I8, 4 * len(order)))
        else:
            if interleaved:
                raise ValueError("only the code for x86-64 interleaves")
            low, high = (-128, 127) if has_sign else (0, 255)
            narrow = []
            for vector in whole:
                raised = b.add(vector, splat(b, b.trunc(zero, I32), self._ints))
                raised = intrinsic(b, "llvm.smax", raised, constant(self._ints, low))
                raised = intrinsic(b, "llvm.smin", raised, constant(self._ints, high))
                narrow.append(b.trunc(raised, ir.VectorType(I8, body.lanes)))
            found = _joined(body, narrow)
        if limits is not None:
            least, most = (splat(b, b.trunc(limit, I8), found.type) for limit in limits)
            least_of, most_of = ("llvm.smin", "llvm.smax") if has_sign else ("llvm.umin", "llvm.umax")
            found = intrinsic(b, least_of, intrinsic(b, most_of, found, least), most)
        return found

    def _narrow_to_words(
        self,
        whole: Sequence[ir.Value],
        zero: ir.Value,
        result: str,
        limits: tuple[ir.Value, ir.Value] | None,
        *,
        interleaved: bool,
    ) -> ir.Value:
        b, body, has_sign = self.body.b, self.body, is_signed(result)
        shift = splat(b, b.trunc(zero, I32), self._ints)
        raised = [b.add(vector, shift) for vector in whole]
        packs = self._is_x86 and (has_sign or may_use(b, "sse4.1")) and len(whole) % 2 == 0
        if packs:  # saturates, and of each eight words four come from each vector
            name = _PACKS[has_sign][body.lanes]
            kind = ir.VectorType(I16, 2 * body.lanes)
            found = _joined(body, [call(b, name, kind, raised[i : i + 2]) for i in range(0, len(raised), 2)])
            if not interleaved or len(whole) > 2:
                found = self._ordered_words(found, interleaved=interleaved)
        else:
            held = (-(1 << 15), (1 << 15) - 1) if has_sign else (0, (1 << 16) - 1)
            low, high = (constant(self._ints, bound) for bound in held)
            kind = ir.VectorType(I16, body.lanes)
            found = _joined(
                body,
                [b.trunc(intrinsic(b, "llvm.smin", intrinsic(b, "llvm.smax", one, low), high), kind) for one in raised],
            )
            if interleaved:
                pieces, vectors = range(body.lanes // 4), range(len(whole))
                starts = [4 * piece + v * body.lanes for piece in pieces for v in vectors]
                found = body.shuffle(found, found, [start + i for start in starts for i in range(4)])
        if limits is None:
            return found
        least, most = (splat(b, b.trunc(limit, I16), found.type) for limit in limits)
        least_of, most_of = ("llvm.smin", "llvm.smax") if has_sign else ("llvm.umin", "llvm.umax")
        return intrinsic(b, least_of, intrinsic(b, most_of, found, least), most)

    def _ordered_words(self, packed: ir.Value, *, interleaved: bool) -> ir.Value:
        """Words of pairs of vectors that were packed, in order; see `to_numbers`."""
        body = self.body
        lanes, vectors = body.lanes, packed.type.count // body.lanes
        pieces = range(lanes // 4)

        def start(piece: int, v: int) -> int:
            return (v // 2) * 2 * lanes + piece * 8 + (v % 2) * 4

        if interleaved:
            starts = [start(piece, v) for piece in pieces for v in range(vectors)]
        else:
            starts = [start(piece, v) for v in range(vectors) for piece in pieces]
        return body.shuffle(packed, packed, [first + i for first in starts for i in range(4)])

    def _packed_words(self, left: ir.Value, right: ir.Value) -> ir.Value:
        kind = ir.VectorType(I16, 2 * self.body.lanes)
        name = {4: "sse2.packssdw.128", 8: "avx2.packssdw", 16: "avx512.packssdw.512"}[self.body.lanes]
        return call(self.body.b, f"llvm.x86.{name}", kind, [left, right])

    def _packed_bytes(self, left: ir.Value, right: ir.Value, is_signed: bool) -> ir.Value:
        kind = ir.VectorType(I8, 4 * self.body.lanes)
        names = {4: "sse2.pack{}wb.128", 8: "avx2.pack{}wb", 16: "avx512.pack{}wb.512"}
        name = names[self.body.lanes].format("ss" if is_signed else "us")
        return call(self.body.b, f"llvm.x86.{name}", kind, [left, right])

    def _looked_up(self, codes: ir.Value, table: ir.Value) -> ir.Value:
        """The entry of a table of 256 bytes for each byte."""
        b, count = self.body.b, codes.type.count
        wide = ir.VectorType(I8, 64)
        if may_use(b, "avx512vbmi") and self.body.lanes == 16:
            full = codes if count == 64 else self.body.shuffle(codes, codes, [min(i, count - 1) for i in range(64)])
            parts = [b.load(self._byte(table, 64 * i), typ=wide, align=1) for i in range(4)]
            low, high = (
                call(b, "llvm.x86.avx512.vpermi2var.qi.512", wide, [parts[i], full, parts[i + 1]]) for i in (0, 2)
            )
            found = b.select(b.icmp_signed("<", full, constant(wide, 0)), high, low)
            return found if count == 64 else self.body.shuffle(found, found, list(range(count)))
        found = ir.Constant(codes.type, ir.Undefined)
        for i in range(count):
            index = b.zext(b.extract_element(codes, ir.Constant(I32, i)), I64)
            entry = b.load(b.gep(table, [index], inbounds=True, source_etype=I8), typ=I8, align=1)
            found = b.insert_element(found, entry, ir.Constant(I32, i))
        return found

    def _distances(self, whole: Sequence[ir.Value]) -> list[ir.Value]:
        """What vectors of int32 are when they are numbers of the result, less their zero point, as floats."""
        b = self.body.b
        least, most = (splat(b, b.trunc(limit, I32), self._ints) for limit in self._reach)
        bounded = [intrinsic(b, "llvm.smin", intrinsic(b, "llvm.smax", part, least), most) for part in whole]
        return [b.sitofp(part, self.body.vector) for part in bounded]

    def _widened(self, codes: ir.Value, kind: str, zero: ir.Value) -> list[ir.Value]:
        """Numbers less their zero point as vectors of floats."""
        b, body = self.body.b, self.body
        found = []
        for part in range(codes.type.count // body.lanes):
            own = body.shuffle(codes, codes, list(range(part * body.lanes, (part + 1) * body.lanes)))
            wide = (b.sext if is_signed(kind) else b.zext)(own, self._ints)
            found.append(b.fsub(b.sitofp(wide, body.vector), splat(b, zero, body.vector)))
        return found

    def _added(
        self,
        left: Sequence[ir.Value],
        op: Following,
        words: Sequence[ir.Value],
        other: Callable[[ir.Value, ir.Type], ir.Value],
    ) -> ir.Value:
        """``round((x - zx) * fx + (y - zy) * fy) + z``, no two operations in one, as a QLinearAdd.

        ``left`` is x less its zero point.
        """
        b, vector = self.body.b, self.body.vector
        address, _, right_zero, left_factor, right_factor, zero, low, high = words
        codes = other(address, ir.VectorType(code_type(op.other), len(left) * self.body.lanes))
        whole = []
        for mine, its in zip(left, self._widened(codes, op.other, right_zero), strict=True):
            one, two = (b.fmul(x, splat(b, f, vector)) for x, f in ((mine, left_factor), (its, right_factor)))
            whole.append(self._rounded(b.fadd(one, two)))
        return self._narrow(whole, zero, op.result, (low, high) if op.bounded else None)

    def _byte(self, base: ir.Value, index: int) -> ir.Value:
        return self.body.b.gep(base, [ir.Constant(I64, index)], inbounds=True, source_etype=I8)


class ShortAccess:
    """Loads and stores of vectors of numbers of 8 or 16 bits of which only the first few may exist.

    Args:
        most: numbers of a vector.
        partial: whether some may not exist: costs a mask or a loop.
    """

    def __init__(self, body: Body, most: int, *, partial: bool) -> None:
        self._body, self._partial = body, partial
        self._masked = may_use(body.b, "avx512bw") and body.lanes == 16
        self._spare = body.memory(ir.ArrayType(I16, most)) if partial and not self._masked else None

    def load(self, at: ir.Value, kind: ir.Type, valid: ir.Value) -> ir.Value:
        """The numbers at an address; those from ``valid`` on are undefined."""
        b = self._body.b
        if not self._partial:
            return b.load(at, typ=kind, align=1)
        if self._masked:
            name = f"llvm.masked.load.v{kind.count}{kind.element}.p0"
            arguments = [at, ir.Constant(I32, 1), self._mask(kind, valid), ir.Constant(kind, None)]
            return call(b, name, kind, arguments)
        self._copy(at, self._spare, valid, kind)
        return b.load(self._spare, typ=kind, align=1)

    def store(self, value: ir.Value, at: ir.Value, valid: ir.Value) -> None:
        """Store the first ``valid`` numbers."""
        b = self._body.b
        if not self._partial:
            b.store(value, at, align=1)
        elif self._masked:
            kind = value.type
            function = self._body.declared(
                f"llvm.masked.store.v{kind.count}{kind.element}.p0",
                ir.FunctionType(ir.VoidType(), [kind, POINTER, I32, ir.VectorType(ir.IntType(1), kind.count)]),
            )
            b.call(function, [value, at, ir.Constant(I32, 1), self._mask(kind, valid)])
        else:
            b.store(value, self._spare, align=1)
            self._copy(self._spare, at, valid, value.type)

    def _mask(self, kind: ir.VectorType, valid: ir.Value) -> ir.Value:
        body, b = self._body, self._body.b
        bits = ir.IntType(64)
        count = body.minimum(valid, ir.Constant(I64, kind.count))
        every = ir.Constant(bits, -1)
        ones = b.lshr(every, b.sub(ir.Constant(bits, 64), count))  # count is above 0
        return b.bitcast(b.trunc(ones, ir.IntType(kind.count)), ir.VectorType(ir.IntType(1), kind.count))

    def _copy(self, source: ir.Value, target: ir.Value, valid: ir.Value, kind: ir.VectorType) -> None:
        body, b, element = self._body, self._body.b, kind.element
        with body.loop(0, body.minimum(valid, ir.Constant(I64, kind.count))) as i:
            number = b.load(b.gep(source, [i], inbounds=True, source_etype=element), typ=element, align=1)
            b.store(number, b.gep(target, [i], inbounds=True, source_etype=element), align=1)


def _joined(body: Body, parts: Sequence[ir.Value]) -> ir.Value:
    """Vectors of numbers as one."""
    whole = parts[0]
    for part in parts[1:]:
        count, own = whole.type.count, part.type.count
        wide = body.shuffle(part, part, [min(i, own - 1) for i in range(count)]) if own != count else part
        whole = body.shuffle(whole, wide, [*range(count), *(count + i for i in range(own))])
    return whole
