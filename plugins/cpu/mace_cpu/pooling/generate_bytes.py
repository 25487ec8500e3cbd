"""Pooling of numbers of 8 or 16 bits that lie channels last: the channels of a pixel are read side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from llvmlite import ir

from mace_core.native.target import Target
from mace_cpu.pooling.bytes import BytePool
from mace_cpu.shared.codegen.body import F32, I32, Body, constant
from mace_cpu.shared.codegen.vector_basic import intrinsic, splat
from mace_cpu.shared.epilogue.generate_requantize import RequantizeCode, ShortAccess, code_type, is_signed

VECTORS = 4
"""Of int32 that belong to a vector of numbers."""

AXES = 3
FIRST_LIST = 6
FIRST_OF_MEAN = FIRST_LIST + 7 * AXES


def build(symbol: str, spec: BytePool, target: Target) -> str:
    """IR of a pooling; one unit is one row of the result."""
    body = Body(symbol, target.vector_bits // 32, target.features)
    code = _Pool(body, spec, is_x86=target.architecture == "x86_64")
    with body.loop(body.begin, body.end) as unit:
        code.emit_row(unit)
    return body.text()


class _Window(NamedTuple):
    """The taps of a window along an axis: those from ``low`` to ``high`` lie inside, the first one at ``first``;
    ``places`` of them lie inside of the padding."""

    first: ir.Value
    low: ir.Value
    high: ir.Value
    places: ir.Value


class _Pool:
    """The code while it is emitted."""

    def __init__(self, body: Body, spec: BytePool, *, is_x86: bool) -> None:
        self.body, self.spec = body, spec
        self.source, self.target = body.pointer(0), body.pointer(1)
        self.channels, counts, self.x_zero = (body.word(i) for i in range(2, 5))
        self.counts_padding = body.b.icmp_signed("!=", counts, constant(0))
        self.ratio = body.number(5)
        lists = [[body.word(FIRST_LIST + AXES * i + axis) for axis in range(AXES)] for i in range(7)]
        self.inputs, self.outputs, self.taps, self.strides, self.begins, self.dilations, self.ends = lists
        self.block = VECTORS * body.lanes
        self.numbers = ir.VectorType(code_type(spec.source), self.block)
        self.ints = ir.VectorType(I32, body.lanes)
        self.is_signed = is_signed(spec.source)
        if spec.mean is None:
            self.held = [body.variable(self.numbers)]
            self.requantize = None
        else:
            self.held = [body.variable(self.ints) for _ in range(VECTORS)]
            self.requantize = RequantizeCode(body, FIRST_OF_MEAN, spec.mean, is_x86=is_x86)
        self.stored = code_type(spec.source if spec.mean is None else spec.mean.result)
        self.whole = ShortAccess(body, self.block, partial=False)
        self.some = ShortAccess(body, self.block, partial=True)

    def emit_row(self, unit: ir.Value) -> None:
        body, b = self.body, self.body.b
        rest, row = body.divide(unit, self.outputs[1])
        image, depth = body.divide(rest, self.outputs[0])
        outer = [self._window(0, depth), self._window(1, row)]
        line = body.mul(unit, self.outputs[2])
        with body.loop(0, self.outputs[2]) as column:
            windows = [*outer, self._window(2, column)]
            factor = self._factor(windows)
            result = self._at(self.target, body.mul(body.add(line, column), self.channels), self.stored)
            is_wide = b.icmp_signed(">=", self.channels, constant(self.block))
            with b.if_else(is_wide) as (then, otherwise):
                with then, body.loop(0, self.channels, self.block) as wanted:
                    last = body.sub(self.channels, constant(self.block))
                    self._emit_block(image, windows, factor, result, body.minimum(wanted, last), self.whole)
                with otherwise:
                    self._emit_block(image, windows, factor, result, constant(0), self.some)

    def _emit_block(
        self,
        image: ir.Value,
        windows: Sequence[_Window],
        factor: tuple[ir.Value, ir.Value] | None,
        result: ir.Value,
        channel: ir.Value,
        access: ShortAccess,
    ) -> None:
        """The results of one pixel for the channels from ``channel`` on."""
        body, b = self.body, self.body.b
        start = ir.Constant(self.held[0].type.pointee, None)
        if factor is None and self.is_signed:
            start = ir.Constant(self.numbers, [-1 << (self.numbers.element.width - 1)] * self.block)
        for cell in self.held:
            b.store(start, cell)

        def see(pixel: ir.Value) -> None:
            at = self._at(self.source, body.add(body.mul(pixel, self.channels), channel), self.numbers.element)
            self._take(access.load(at, self.numbers, self.channels))

        self._each_tap(image, windows, see)
        if factor is None:
            found = b.load(self.held[0], typ=self.numbers)
        else:
            found = self._means([b.load(cell, typ=self.ints) for cell in self.held], factor)
        access.store(found, self._at(result, channel, self.stored), self.channels)

    def _each_tap(self, image: ir.Value, windows: Sequence[_Window], see: Callable[[ir.Value], None]) -> None:
        """Call ``see`` with the number of the pixel under each tap that lies inside."""
        body = self.body

        def descend(axis: int, before: ir.Value) -> None:
            if axis == AXES:
                see(before)
                return
            window = windows[axis]
            with body.loop(window.low, window.high) as tap:
                at = body.add(window.first, body.mul(tap, self.dilations[axis]))
                descend(axis + 1, body.add(body.mul(before, self.inputs[axis]), at))

        descend(0, image)

    def _take(self, loaded: ir.Value) -> None:
        b, body = self.body.b, self.body
        if self.requantize is None:
            before = b.load(self.held[0], typ=self.numbers)
            name = "llvm.smax" if self.is_signed else "llvm.umax"
            b.store(intrinsic(b, name, before, loaded), self.held[0])
            return
        widen = b.sext if self.is_signed else b.zext
        for i, cell in enumerate(self.held):
            part = body.shuffle(loaded, loaded, list(range(i * body.lanes, (i + 1) * body.lanes)))
            b.store(b.add(b.load(cell, typ=self.ints), widen(part, self.ints)), cell)

    def _means(self, sums: Sequence[ir.Value], factor: tuple[ir.Value, ir.Value]) -> ir.Value:
        """``factor``: what to take from each sum, and what to multiply it with then."""
        b = self.body.b
        offset, scale = splat(b, factor[0], self.ints), splat(b, factor[1], self.body.vector)
        assert self.requantize is not None
        centered = [b.sub(total, offset) for total in sums]
        return self.requantize.to_numbers(centered, lambda _: scale, lambda _: scale, lambda at, kind: at)

    def _window(self, axis: int, index: ir.Value) -> _Window:
        body, b = self.body, self.body.b
        size, taps, dilation = self.inputs[axis], self.taps[axis], self.dilations[axis]
        first = body.sub(body.mul(index, self.strides[axis]), self.begins[axis])

        def steps(distance: ir.Value) -> ir.Value:
            """How many taps lie before so many pixels."""
            ahead = body.maximum(distance, constant(0))
            return b.udiv(body.add(ahead, body.sub(dilation, constant(1))), dilation)

        return _Window(
            first,
            steps(b.neg(first)),
            body.minimum(taps, steps(body.sub(size, first))),
            body.minimum(taps, steps(body.sub(body.add(size, self.ends[axis]), first))),
        )

    def _factor(self, windows: Sequence[_Window]) -> tuple[ir.Value, ir.Value] | None:
        if self.requantize is None:
            return None
        body, b = self.body, self.body.b
        inside: ir.Value = constant(1)
        places: ir.Value = constant(1)
        for window in windows:
            inside = body.mul(inside, body.maximum(body.sub(window.high, window.low), constant(0)))
            places = body.mul(places, window.places)
        count = body.maximum(b.select(self.counts_padding, places, inside), constant(1))
        offset = b.trunc(body.mul(inside, self.x_zero), I32)
        return offset, b.fdiv(self.ratio, b.sitofp(count, F32))

    def _at(self, base: ir.Value, index: ir.Value, kind: ir.Type) -> ir.Value:
        return self.body.b.gep(base, [index], inbounds=True, source_etype=kind)
