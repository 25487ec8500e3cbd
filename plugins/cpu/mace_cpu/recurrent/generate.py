"""LSTM, GRU and RNN of float32: the recurrent part, after the input's products have been computed for all steps.

One unit is one sequence in one direction.  A step adds the product of the hidden state and the packed recurrent weights
to the gates, several vectors at a time in registers, then computes the cell along vectors.  Argument words:
`recurrent_arguments.Arg`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from llvmlite import ir

from mace_core.native.target import Target
from mace_cpu.recurrent.arguments import PANEL_VECTORS, PARAMETERS, Arg, Variant
from mace_cpu.recurrent.generate_rounded import RoundedProduct
from mace_cpu.shared.codegen import vector_math
from mace_cpu.shared.codegen.body import F32, I32, I64, constant
from mace_cpu.shared.codegen.rows import RowBody
from mace_cpu.shared.codegen.vector_basic import F64, absolute, at_least, at_most, fma, splat
from mace_cpu.shared.codegen.vector_basic import constant as number

POINTERS = frozenset(
    {
        Arg.PROJECTED, Arg.RECURRENT, Arg.INNER, Arg.BIAS, Arg.PEEPHOLES, Arg.LENGTHS, Arg.FIRST_HIDDEN,
        Arg.FIRST_CELL, Arg.OUTPUT, Arg.LAST_HIDDEN, Arg.LAST_CELL, Arg.SCRATCH, Arg.STATUS, Arg.SUMS, Arg.ZEROS,
        Arg.SCALES,
    }
)  # fmt: skip
TURNS_PER_POLL = 16
"""Steps of a sequence between two looks at whether the run is to stop; a power of two."""

GATES = {"lstm": 4, "gru": 3, "rnn": 1}


def build(symbol: str, variant: Variant, target: Target) -> str:
    """IR of the kernel."""
    return _Cell(symbol, variant, target).emit()


Activation = Callable[[ir.IRBuilder, ir.Value, ir.Value, ir.Value], ir.Value]


def _where(b: ir.IRBuilder, sign: str, x: ir.Value, bound: ir.Value, yes: ir.Value, no: ir.Value) -> ir.Value:
    return b.select(b.fcmp_ordered(sign, x, bound), yes, no)


def _zero(x: ir.Value) -> ir.Constant:
    return number(x.type, 0.0)


def _one(x: ir.Value) -> ir.Constant:
    return number(x.type, 1.0)


def _hard_sigmoid(b: ir.IRBuilder, x: ir.Value, alpha: ir.Value, beta: ir.Value) -> ir.Value:
    return at_most(b, at_least(b, fma(b, alpha, x, beta), _zero(x)), _one(x))


def _elu(b: ir.IRBuilder, x: ir.Value, alpha: ir.Value, beta: ir.Value) -> ir.Value:
    grown = vector_math.expm1(b, at_most(b, x, _zero(x)))
    return _where(b, ">=", x, _zero(x), x, b.fmul(alpha, grown))


def _softplus(b: ir.IRBuilder, x: ir.Value, alpha: ir.Value, beta: ir.Value) -> ir.Value:
    rest = vector_math.log1p(b, vector_math.exp(b, b.fneg(absolute(b, x))))
    return b.fadd(at_least(b, x, _zero(x)), rest)


ACTIVATIONS: dict[str, Activation] = {
    "sigmoid": lambda b, x, alpha, beta: vector_math.sigmoid(b, x),
    "tanh": lambda b, x, alpha, beta: vector_math.tanh(b, x),
    "relu": lambda b, x, alpha, beta: at_least(b, x, _zero(x)),
    "affine": lambda b, x, alpha, beta: fma(b, alpha, x, beta),
    "leakyrelu": lambda b, x, alpha, beta: _where(b, "<", x, _zero(x), b.fmul(alpha, x), x),
    "thresholdedrelu": lambda b, x, alpha, beta: _where(b, "<", x, alpha, _zero(x), x),
    "scaledtanh": lambda b, x, alpha, beta: b.fmul(alpha, vector_math.tanh(b, b.fmul(beta, x))),
    "hardsigmoid": _hard_sigmoid,
    "elu": _elu,
    "softsign": lambda b, x, alpha, beta: b.fdiv(x, b.fadd(_one(x), absolute(b, x))),
    "softplus": _softplus,
}


class _Cell:
    def __init__(self, symbol: str, variant: Variant, target: Target) -> None:
        self.variant = variant
        self.body = body = RowBody(symbol, target, "float32")
        self.words: dict[Arg, ir.Value] = {
            arg: body.pointer(arg) if arg in POINTERS else body.word(arg) for arg in Arg if arg is not Arg.CLIP
        }
        self.gates = GATES[variant.cell]
        self.hidden = self.words[Arg.HIDDEN]
        self.width = body.mul(self.hidden, self.gates)
        self.panel = PANEL_VECTORS * body.lanes
        limit = body.real(Arg.CLIP)
        infinite = number(body.vector, float("inf"))
        self.limit = _where(body.b, "<", limit, _zero(limit), infinite, limit)
        self.rounded = RoundedProduct(body, target, self.hidden, zeros=variant.zeros) if variant.rounded else None

    def emit(self) -> str:
        body, words = self.body, self.words
        # per chunk: gates by whole panels, those of the second product, one more vector, hidden state, cell state,
        # the rounded hidden state
        outer = body.mul(words[Arg.PANELS], self.panel)
        inner = body.mul(words[Arg.INNER_PANELS], self.panel)
        self.gate = body.floats(words[Arg.SCRATCH], body.mul(body.chunk, words[Arg.ROOM]))
        self.inner = body.floats(self.gate, outer)
        self.spare = body.floats(self.inner, inner)
        padded = body.b.select(body.b.icmp_signed(">", inner, constant(0)), inner, self.hidden)
        self.state = body.floats(self.spare, padded)
        self.memory = body.floats(self.state, self.hidden)
        with body.loop(body.begin, body.end) as unit:
            group, item = body.divide(unit, words[Arg.BATCH])
            self._sequence(body.add(group, words[Arg.FIRST_DIRECTION]), item)
        return body.text()

    def _sequence(self, direction: ir.Value, item: ir.Value) -> None:
        body, words, b = self.body, self.words, self.body.b
        is_second = b.icmp_signed("==", direction, constant(1))
        backward = b.or_(b.icmp_signed("!=", words[Arg.REVERSED], constant(0)), is_second)
        at = body.add(body.mul(item, words[Arg.ROW_BATCH]), body.mul(direction, self.width))
        projected = body.floats(words[Arg.PROJECTED], at)
        if self.rounded is not None:
            self.rounded.choose(words, direction)
        weights = body.mul(body.mul(direction, self.hidden), self.panel)
        self.outer_weights = body.floats(words[Arg.RECURRENT], body.mul(weights, words[Arg.PANELS]))
        self.inner_weights = body.floats(words[Arg.INNER], body.mul(weights, words[Arg.INNER_PANELS]))
        self.bias = body.floats(words[Arg.BIAS], body.mul(body.mul(direction, self.width), 2))
        self.peepholes = body.floats(words[Arg.PEEPHOLES], body.mul(body.mul(direction, self.hidden), 3))
        place = body.add(body.mul(item, words[Arg.OUT_BATCH]), body.mul(direction, words[Arg.OUT_DIRECTION]))
        output = body.floats(words[Arg.OUTPUT], place)
        state_at = body.add(body.mul(item, words[Arg.STATE_BATCH]), body.mul(direction, words[Arg.STATE_DIRECTION]))
        self._read_parameters(direction)
        length = self._length(item)
        for arg, target in ((Arg.FIRST_HIDDEN, self.state), (Arg.FIRST_CELL, self.memory)):
            self._start(arg, target, state_at)
        with body.loop(0, length) as turn:
            due = b.icmp_signed("==", b.and_(turn, constant(TURNS_PER_POLL - 1)), constant(0))
            with b.if_then(due, likely=False):
                body.return_if_stopped()
            t = b.select(backward, body.sub(body.sub(length, constant(1)), turn), turn)
            row = body.floats(projected, body.mul(t, words[Arg.ROW_STEP]))
            {"lstm": self._lstm, "gru": self._gru, "rnn": self._rnn}[self.variant.cell](row)
            with self._given(Arg.OUTPUT):
                self._copy(self.state, body.floats(output, body.mul(t, words[Arg.OUT_STEP])))
        with self._given(Arg.OUTPUT), body.loop(length, words[Arg.STEPS]) as t:
            self._clear(body.floats(output, body.mul(t, words[Arg.OUT_STEP])))
        for arg, source in ((Arg.LAST_HIDDEN, self.state), (Arg.LAST_CELL, self.memory)):
            with self._given(arg):
                self._copy(source, body.floats(words[arg], state_at))

    # --- what a sequence begins with ------------------------------------------------------------------------------

    def _read_parameters(self, direction: ir.Value) -> None:
        """Alpha and beta of each function in all lanes."""
        body = self.body
        count = len(self.variant.functions)
        first = body.add(body.mul(direction, 2 * count), PARAMETERS)
        self.parameters = []
        for i in range(2 * count):
            bits = body.table_entry(body.args, body.add(first, i))
            self.parameters.append(splat(body.b, body.b.fptrunc(body.b.bitcast(bits, F64), F32), body.vector))

    def _length(self, item: ir.Value) -> ir.Value:
        """Steps of a sequence; none, and a report, where the length given is not possible."""
        body, b, steps = self.body, self.body.b, self.words[Arg.STEPS]
        length = body.variable(I64)
        b.store(steps, length)
        with self._given(Arg.LENGTHS):
            at = b.gep(self.words[Arg.LENGTHS], [item], inbounds=True, source_etype=I32)
            told = b.sext(b.load(at, typ=I32, align=4), I64)
            wrong = b.or_(b.icmp_signed("<", told, constant(0)), b.icmp_signed(">", told, steps))
            b.store(b.select(wrong, constant(0), told), length)
            with b.if_then(wrong, likely=False):
                status = self.words[Arg.STATUS]
                b.store(constant(1), status, align=8)
                b.store(told, b.gep(status, [constant(1)], source_etype=I64), align=8)
        return b.load(length, typ=I64)

    def _start(self, arg: Arg, target: ir.Value, at: ir.Value) -> None:
        self._clear(target)
        with self._given(arg):
            self._copy(self.body.floats(self.words[arg], at), target)

    # --- the cells ------------------------------------------------------------------------------------------------

    def _lstm(self, row: ir.Value) -> None:
        body, b, hidden = self.body, self.body.b, self.hidden
        self._sum(self.gate, [(row, None), (self.bias, None), (self.bias, self.width)], self.width)
        if self.rounded is None:
            self._multiply(self.gate, self.state, self.outer_weights, self.words[Arg.PANELS])
        else:
            self.rounded.add(self.gate, self.state, body.floats(self.memory, hidden), self.words[Arg.PANELS])
        coupled = b.icmp_signed("!=", self.words[Arg.VARIANT], constant(0))

        def cell(i: ir.Value, rest: ir.Value | None) -> None:
            of_input, of_output, of_forget, fresh = (
                body.read(self.gate, body.add(i, body.mul(hidden, gate)), rest) for gate in range(4)
            )
            before = body.read(self.memory, i, rest)
            if self.variant.peepholes:
                of_input = fma(b, body.read(self.peepholes, i, rest), before, of_input)
                third = body.add(i, body.mul(hidden, 2))
                of_forget = fma(b, body.read(self.peepholes, third, rest), before, of_forget)
            enter = self._activate(0, of_input)
            keep = b.select(coupled, b.fsub(_one(enter), enter), self._activate(0, of_forget))
            after = fma(b, keep, before, b.fmul(enter, self._activate(1, fresh)))
            if self.variant.peepholes:
                of_output = fma(b, body.read(self.peepholes, body.add(i, hidden), rest), after, of_output)
            body.write(after, self.memory, i, rest)
            # the gates are clipped, the cell state is not: as onnxruntime has it
            shown = self._activate(2, after, clip=False)
            body.write(b.fmul(shown, self._activate(0, of_output)), self.state, i, rest)

        body.each(hidden, cell)

    def _gru(self, row: ir.Value) -> None:
        body, b, hidden = self.body, self.body.b, self.hidden
        both = body.mul(hidden, 2)
        self._sum(self.gate, [(row, None), (self.bias, None), (self.bias, self.width)], both)
        self._multiply(self.gate, self.state, self.outer_weights, self.words[Arg.PANELS])
        body.each(
            both, lambda i, rest: body.write(self._activate(0, body.read(self.gate, i, rest)), self.gate, i, rest)
        )
        of_hidden = body.add(self.width, both)
        if self.variant.linear:
            self._sum(self.inner, [(self.bias, of_hidden)], hidden)
            self._multiply(self.inner, self.state, self.inner_weights, self.words[Arg.INNER_PANELS])
        else:
            self._sum(self.inner, [(row, both), (self.bias, both), (self.bias, of_hidden)], hidden)

            def reset(i: ir.Value, rest: ir.Value | None) -> None:
                gate = body.read(self.gate, body.add(i, hidden), rest)
                body.write(b.fmul(gate, body.read(self.state, i, rest)), self.spare, i, rest)

            body.each(hidden, reset)
            self._multiply(self.inner, self.spare, self.inner_weights, self.words[Arg.INNER_PANELS])

        def cell(i: ir.Value, rest: ir.Value | None) -> None:
            update, fresh = body.read(self.gate, i, rest), body.read(self.inner, i, rest)
            if self.variant.linear:
                base = b.fadd(body.read(row, body.add(i, both), rest), body.read(self.bias, body.add(i, both), rest))
                fresh = fma(b, body.read(self.gate, body.add(i, hidden), rest), fresh, base)
            fresh = self._activate(1, fresh)
            kept = b.fmul(update, body.read(self.state, i, rest))
            body.write(fma(b, b.fsub(_one(update), update), fresh, kept), self.state, i, rest)

        body.each(hidden, cell)

    def _rnn(self, row: ir.Value) -> None:
        body = self.body
        self._sum(self.gate, [(row, None), (self.bias, None), (self.bias, self.width)], self.width)
        self._multiply(self.gate, self.state, self.outer_weights, self.words[Arg.PANELS])
        body.each(
            self.hidden,
            lambda i, rest: body.write(self._activate(0, body.read(self.gate, i, rest)), self.state, i, rest),
        )

    # --- parts ----------------------------------------------------------------------------------------------------

    def _activate(self, which: int, x: ir.Value, clip: bool = True) -> ir.Value:
        b = self.body.b
        if clip:
            x = at_most(b, at_least(b, x, b.fneg(self.limit)), self.limit)
        alpha, beta = self.parameters[2 * which : 2 * which + 2]
        return ACTIVATIONS[self.variant.functions[which]](b, x, alpha, beta)

    def _sum(self, target: ir.Value, sources: Sequence[tuple[ir.Value, ir.Value | None]], count: ir.Value) -> None:
        """``count`` elements of ``target`` become the sum of those of (address, offset)."""
        body = self.body

        def step(i: ir.Value, rest: ir.Value | None) -> None:
            parts = [body.read(at, i if by is None else body.add(i, by), rest) for at, by in sources]
            total = parts[0]
            for part in parts[1:]:
                total = body.b.fadd(total, part)
            body.write(total, target, i, rest)

        body.each(count, step)

    def _multiply(self, target: ir.Value, vector: ir.Value, weights: ir.Value, panels: ir.Value) -> None:
        """Add the product of ``hidden`` numbers with packed weights; whole panels of ``target`` are written."""
        body, b = self.body, self.body.b
        sums = [body.variable(body.vector) for _ in range(PANEL_VECTORS)]
        size = body.mul(self.hidden, self.panel)
        with body.loop(0, panels) as panel:
            to = body.floats(target, body.mul(panel, self.panel))
            matrix = body.floats(weights, body.mul(panel, size))
            for v, place in enumerate(sums):
                b.store(body.load(body.floats(to, v * body.lanes)), place)
            with body.loop(0, self.hidden) as k:
                factor = body.splat(body.load_scalar(body.floats(vector, k)))
                row = body.floats(matrix, body.mul(k, self.panel))
                for v, place in enumerate(sums):
                    found = body.load(body.floats(row, v * body.lanes))
                    b.store(body.multiply_add(factor, found, body.held(place)), place)
            for v, place in enumerate(sums):
                body.store(body.held(place), body.floats(to, v * body.lanes))

    def _copy(self, source: ir.Value, target: ir.Value) -> None:
        body = self.body
        body.each(self.hidden, lambda i, rest: body.write(body.read(source, i, rest), target, i, rest))

    def _clear(self, target: ir.Value) -> None:
        body = self.body
        body.each(self.hidden, lambda i, rest: body.write(number(body.vector, 0.0), target, i, rest))

    @contextmanager
    def _given(self, arg: Arg) -> Iterator[None]:
        """Code that runs only where the node has this tensor."""
        b = self.body.b
        with b.if_then(b.icmp_signed("!=", b.ptrtoint(self.words[arg], I64), constant(0))):
            yield
