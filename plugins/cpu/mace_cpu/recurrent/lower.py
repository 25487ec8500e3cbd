"""LSTM, GRU and RNN."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from mace_core.graph import GraphView, Node, Value
from mace_core.native.numba_kernel import numba_source
from mace_core.native.source import KernelSource
from mace_core.symbolic import maximum, minimum
from mace_core.tensor import DType
from mace_cpu.matmul.lower_packed import emit_product, pack_panels
from mace_cpu.matmul.product import Product
from mace_cpu.matmul.views import Lie
from mace_cpu.recurrent.arguments import PANEL_VECTORS, Arg, Variant, words_of
from mace_cpu.shared.checks import all_concrete, dtype_in
from mace_cpu.shared.codegen.generated import generated
from mace_cpu.shared.epilogue.epilogue import Epilogue
from mace_cpu.shared.layouts.strided import Axis, emit_strided
from mace_cpu.shared.nodes import need
from mace_cpu.shared.parts.buffers import At, Buf
from mace_cpu.shared.parts.steps import Words
from mace_cpu.shared.parts.views import Offsets
from mace_cpu.shared.program.program import Program
from mace_cpu.shared.registry import lowers

KERNELS = "mace_cpu.recurrent.kernels"
FLOATS = frozenset({DType.FLOAT32, DType.FLOAT64})
GATES = {"LSTM": 4, "DynamicQuantizeLSTM": 4, "GRU": 3, "RNN": 1}
_LSTM_FUNCTIONS = ("Sigmoid", "Tanh", "Tanh")
DEFAULT_FUNCTIONS = {
    "LSTM": _LSTM_FUNCTIONS, "DynamicQuantizeLSTM": _LSTM_FUNCTIONS, "GRU": ("Sigmoid", "Tanh"), "RNN": ("Tanh",),
}  # fmt: skip
FUNCTIONS = frozenset(
    {
        "relu", "tanh", "sigmoid", "affine", "leakyrelu", "thresholdedrelu", "scaledtanh", "hardsigmoid", "elu",
        "softsign", "softplus",
    }
)  # fmt: skip
PARAMETERS: dict[str, tuple[float, ...]] = {
    "affine": (1.0, 0.0), "leakyrelu": (0.01,), "thresholdedrelu": (1.0,), "scaledtanh": (1.0, 1.0),
    "hardsigmoid": (0.2, 0.5), "elu": (1.0,),
}  # fmt: skip
"""Defaults of alpha and beta, for the functions that have them."""

UNLIMITED = -1.0


def functions_of(node: Node, directions: int) -> list[tuple[str, float, float]]:
    """(name, alpha, beta) of each activation, all directions one after another.

    The lists of alphas and betas hold entries only for functions that have such a parameter, in order.
    """
    names = [str(name).lower() for name in node.attr("activations", ())]
    names = names or [name.lower() for name in DEFAULT_FUNCTIONS[node.op_type]] * directions
    alphas, betas = list(node.attr("activation_alpha", ())), list(node.attr("activation_beta", ()))
    found = []
    for name in names:
        defaults = PARAMETERS.get(name, ())
        alpha = (alphas.pop(0) if alphas else defaults[0]) if defaults else 0.0
        beta = (betas.pop(0) if betas else defaults[1]) if len(defaults) > 1 else 0.0
        found.append((name, float(alpha), float(beta)))
    return found


def _check(view: GraphView, node: Node) -> str | None:
    reason = all_concrete(view, node)
    for index, value in enumerate(node.inputs):
        if index != 4:
            reason = reason or dtype_in(view, value, FLOATS)
    return reason or check_functions(view, node)


def check_functions(view: GraphView, node: Node) -> str | None:
    """A reason if an activation is not known, or there are not enough of them."""
    for name in node.attr("activations", ()):
        if str(name).lower() not in FUNCTIONS:
            return f"there is no activation '{name}'"
    directions = view.shape(need(node.input(1)))[0]
    wanted = len(DEFAULT_FUNCTIONS[node.op_type]) * directions
    if len(node.attr("activations", ())) not in (0, wanted):
        return f"it names {len(node.attr('activations'))} activations where {wanted} are needed"
    return None


@dataclass(frozen=True, slots=True)
class Sizes:
    """The sizes of a recurrent node.

    Attributes:
        features: of the input, per step and sequence.
        hidden: elements of a state.
        gates: vectors of that size that each step computes.
        batch_first: sequences are the outermost axis of input, result and states, not steps.
    """

    steps: int
    batch: int
    directions: int
    features: int
    hidden: int
    gates: int
    batch_first: bool

    @property
    def width(self) -> int:
        """Elements of all gates together."""
        return self.gates * self.hidden

    @property
    def sequences(self) -> int:
        """In both directions together: each is a unit of work."""
        return self.directions * self.batch

    def strides(self) -> dict[Arg, int]:
        """The words that say how the input's products, the result and the states lie."""
        directions, batch, hidden = self.directions, self.batch, self.hidden
        row = directions * self.width
        if self.batch_first:
            return {
                Arg.ROW_STEP: row,
                Arg.ROW_BATCH: self.steps * row,
                # Y is (batch, steps, directions, hidden)
                Arg.OUT_STEP: directions * hidden,
                Arg.OUT_BATCH: self.steps * directions * hidden,
                Arg.OUT_DIRECTION: hidden,
                # states are (batch, directions, hidden)
                Arg.STATE_BATCH: directions * hidden,
                Arg.STATE_DIRECTION: hidden,
            }
        return {
            Arg.ROW_STEP: batch * row,
            Arg.ROW_BATCH: row,
            # Y is (steps, directions, batch, hidden)
            Arg.OUT_STEP: directions * batch * hidden,
            Arg.OUT_BATCH: hidden,
            Arg.OUT_DIRECTION: batch * hidden,
            # states are (directions, batch, hidden)
            Arg.STATE_BATCH: hidden,
            Arg.STATE_DIRECTION: batch * hidden,
        }


@lowers("LSTM", "GRU", "RNN", check=_check)
def lower_recurrent(program: Program, node: Node) -> None:
    sizes = _sizes(program, node)
    work = sizes.sequences * max(sizes.steps, 1) * sizes.hidden * sizes.width / 8
    chunks = program.steps.chunks(sizes.sequences, work)
    words = {**shared_words(program, node, sizes), **_own_words(program, node, sizes, chunks)}
    emit_cell(program, node, sizes, words, work, chunks, lambda functions: _kernel(program, node, functions))


def emit_cell(
    program: Program,
    node: Node,
    sizes: Sizes,
    words: Words,
    work: float,
    chunks: int,
    kernel: Callable[[str], KernelSource],
    note: str = "",
) -> None:
    """Emit the recurrent part; ``kernel`` gives that for the activations of a direction, joined by "-"."""
    functions = functions_of(node, sizes.directions)
    each = len(functions) // sizes.directions
    names = ["-".join(name for name, _, _ in functions[i * each : (i + 1) * each]) for i in range(sizes.directions)]
    parameters = [parameter for _, *both in functions for parameter in both]
    # directions with activations of their own are kernels of their own
    together = [sizes.directions] if len(set(names)) == 1 else [1] * sizes.directions
    for direction, count in enumerate(together):
        program.steps.emit(
            kernel(names[direction]),
            {**words, Arg.FIRST_DIRECTION: direction, "parameters": parameters},
            extent=count * sizes.batch if sizes.hidden else 0,
            work=work * count / sizes.directions,
            chunks=minimum(chunks, maximum(count * sizes.batch, 1)),
            note=note,
        )


def _sizes(program: Program, node: Node) -> Sizes:
    first, second, features = program.facts.shape(need(node.input(0)))
    directions, _, hidden = program.facts.shape(need(node.input(2)))
    batch_first = bool(node.attr("layout", 0))
    steps, batch = (second, first) if batch_first else (first, second)
    return Sizes(steps, batch, directions, features, hidden, GATES[node.op_type], batch_first)


def shared_words(program: Program, node: Node, sizes: Sizes) -> Words:
    """The argument words that do not depend on how products are computed."""
    lengths = node.input(4)
    output, last_hidden, last_cell = node.output(0), node.output(1), node.output(2)
    dtype = program.facts.dtype(need(node.input(0)))
    status: int | At = 0
    if lengths is not None:
        status = program.steps.report(
            f"'{lengths.name}' holds the length {{value}} for sequences of {sizes.steps!s} steps"
        )
    return {
        Arg.BIAS: _or_zeros(program, node.input(3), dtype, sizes.directions * 2 * sizes.width),
        Arg.PEEPHOLES: _or_zeros(program, node.input(7), dtype, sizes.directions * 3 * sizes.hidden),
        Arg.LENGTHS: _or_none(program, lengths),
        Arg.FIRST_HIDDEN: _or_none(program, node.input(5)),
        Arg.FIRST_CELL: _or_none(program, node.input(6)),
        Arg.OUTPUT: 0 if output is None else program.values.write(output),
        Arg.LAST_HIDDEN: 0 if last_hidden is None else program.values.write(last_hidden),
        Arg.LAST_CELL: 0 if last_cell is None else program.values.write(last_cell),
        Arg.STEPS: sizes.steps,
        Arg.BATCH: sizes.batch,
        Arg.HIDDEN: sizes.hidden,
        Arg.DIRECTIONS: sizes.directions,
        Arg.REVERSED: int(node.attr("direction", "forward") == "reverse"),
        **sizes.strides(),
        Arg.CLIP: float(node.attr("clip", UNLIMITED)),
        Arg.VARIANT: int(is_variant(node)),
        Arg.STATUS: status,
        Arg.INNER: 0,
        Arg.PANELS: 0,
        Arg.INNER_PANELS: 0,
        Arg.ROOM: 0,
        Arg.SUMS: 0,
        Arg.ZEROS: 0,
        Arg.SCALES: 0,
    }


def _own_words(program: Program, node: Node, sizes: Sizes, chunks: int) -> Words:
    """What the kernels of floats want: the input's products, recurrent weights, scratch memory."""
    recurrence = need(node.input(2))
    dtype = program.facts.dtype(recurrence)
    words: Words = {Arg.PROJECTED: _project(program, need(node.input(0)), need(node.input(1)), sizes)}
    if dtype is DType.FLOAT32:
        return {**words, **_packed(program, node, recurrence, chunks)}
    words[Arg.RECURRENT] = _transposed(program, recurrence)
    words[Arg.SCRATCH] = Buf.scratch(dtype.nbytes(chunks * (sizes.width + 3 * sizes.hidden)))
    return words


def is_variant(node: Node) -> bool:
    """Whether an LSTM couples input and forget gates, or a GRU resets after the product."""
    return bool(node.attr("linear_before_reset" if node.op_type == "GRU" else "input_forget", 0))


def _kernel(program: Program, node: Node, functions: str) -> KernelSource:
    """The kernel for a node and the activations of one of its directions, joined by "-"."""
    cell = node.op_type.lower()
    if program.facts.dtype(need(node.input(0))) is DType.FLOAT32:
        return recurrent_kernel(cell, functions, node.input(7) is not None, is_variant(node))
    kernel = numba_source(KERNELS, "recurrent", cell=cell, functions=functions)
    return replace(kernel, words=words_of(functions.count("-") + 1))


def _project(program: Program, source: Value, weights: Value, sizes: Sizes) -> Buf:
    """The input times W, for all at once: (steps * batch, directions * gates * hidden)."""
    rows, features, columns = sizes.steps * sizes.batch, sizes.features, sizes.directions * sizes.width
    dtype = program.facts.dtype(source)
    if rows * columns == 0 or features == 0:  # no step, no sequence or no feature: a sum of nothing
        return program.constants.put(np.zeros(max(rows * columns, 1), dtype.numpy))
    left, target = program.values.read(source), Buf.scratch(dtype.nbytes(rows * columns))
    if dtype is DType.FLOAT32:
        product = Product(rows, features, columns, transposed_right=True)
        known = program.facts.constant_of(weights)
        right = program.values.read(weights) if known is None else known
        emit_product(program, product, left, right, np.zeros(columns, np.float32), Epilogue(), (), target)
        return target
    origin = program.constants.put(np.zeros(1, np.int64))
    program.steps.emit(
        numba_source("mace_cpu.matmul.kernels", "product", dtype=dtype.label),
        {
            "left": left,
            "right": program.values.read(weights),
            "out": target,
            "addend": 0,
            "left_offsets": origin,
            "right_offsets": origin,
            "rows": rows,
            "steps": features,
            "columns": columns,
            "left_row": features,
            "left_step": 1,
            "right_step": 1,
            "right_column": features,
            "addend_row": 0,
            "addend_column": 0,
            "alpha": 1.0,
            "beta": 1.0,
        },
        extent=rows,
        work=rows * features * columns,
    )
    return target


def _packed(program: Program, node: Node, recurrence: Value, chunks: int) -> Words:
    """The recurrent weights in panels, and scratch memory, as the generated kernels want them."""
    _, width, hidden = program.facts.shape(recurrence)
    lanes = program.settings.target.vector_bits // 32
    panel = PANEL_VECTORS * lanes
    first = 2 * hidden if node.op_type == "GRU" else width
    panels = -(-first // panel)
    words: Words = {
        Arg.RECURRENT: _panels(program, recurrence, 0, first, panels, panel),
        Arg.PANELS: panels,
    }
    inner = 0
    if node.op_type == "GRU":
        inner = -(-hidden // panel)
        words[Arg.INNER] = _panels(program, recurrence, first, hidden, inner, panel)
        words[Arg.INNER_PANELS] = inner
    room = (panels + inner) * panel + max(inner * panel, hidden) + 2 * hidden
    room = -(-room // lanes) * lanes
    words[Arg.ROOM] = room
    words[Arg.SCRATCH] = Buf.scratch(4 * chunks * room)
    return words


def _panels(program: Program, recurrence: Value, first: int, count: int, panels: int, width: int) -> Buf:
    """Rows ``first`` to ``first + count`` of R as [direction][panel][step][row of the panel]."""
    directions, rows, hidden = program.facts.shape(recurrence)
    known = program.facts.constant_of(recurrence)
    if known is None:
        lie = Lie(Offsets(first * hidden, (directions,), (rows * hidden,)), hidden, transposed=True)
        return pack_panels(program, program.values.read(recurrence), lie, hidden, count, width, panels)
    full = np.zeros((directions, panels * width, hidden), np.float32)
    full[:, :count] = known[:, first : first + count]
    packed = full.reshape(directions, panels, width, hidden).transpose(0, 1, 3, 2)
    return program.constants.put(np.ascontiguousarray(packed))


def recurrent_kernel(cell: str, functions: str, peepholes: bool, variant: bool) -> KernelSource:
    """The generated kernel of one cell, "lstm", "gru" or "rnn", with its activations, joined by "-"."""
    linear = cell == "gru" and variant
    looks = cell == "lstm" and peepholes
    tags = [functions.replace("-", "_"), *["peepholes"] * looks, *["linear"] * linear]
    symbol = "_".join([cell, *tags])
    split = Variant(cell, tuple(functions.split("-")), looks, linear)
    return generated("mace_cpu.recurrent.generate", symbol, split, words=lambda: words_of(len(split.functions)))


def _transposed(program: Program, recurrence: Value) -> Buf:
    """R as (directions, hidden, gates * hidden), so that a step runs along rows."""
    known = program.facts.constant_of(recurrence)
    if known is not None:
        return program.constants.put(np.ascontiguousarray(known.transpose(0, 2, 1)))
    directions, width, hidden = program.facts.shape(recurrence)
    target = Buf.scratch(program.facts.nbytes(recurrence))
    axes = [Axis(directions, width * hidden, width * hidden), Axis(hidden, 1, width), Axis(width, hidden, 1)]
    emit_strided(program.steps, program.facts.dtype(recurrence), program.values.read(recurrence), target, axes)
    return target


def _or_zeros(program: Program, value: Value | None, dtype: DType, count: int) -> Buf:
    return program.constants.put(np.zeros(count, dtype.numpy)) if value is None else program.values.read(value)


def _or_none(program: Program, value: Value | None) -> Buf | int:
    return 0 if value is None else program.values.read(value)
