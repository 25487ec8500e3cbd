"""DynamicQuantizeLSTM: weights of 8 bits, the input and each hidden state rounded to 8 bits by their range.

As onnxruntime does it: the input of all steps has one range, up to the end of the longest sequence.  The hidden states
of a batch, which onnxruntime rounds together as far as one thread computes them, have a range each: the result of a
sequence does not depend on its neighbors.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import numpy.typing as npt

from mace_core.graph import GraphView, Node, Value
from mace_core.native.numba_kernel import numba_source
from mace_core.native.source import KernelSource
from mace_core.tensor import DType, TensorType
from mace_cpu.quantized.products.emit import KERNELS as PRODUCTS
from mace_cpu.quantized.products.emit import Factors, Finish, emit_bytes_product, padded_columns, shape_of
from mace_cpu.quantized.products.emit_dynamic import emit_dynamic_bytes, emit_longest
from mace_cpu.recurrent.arguments import PANEL_VECTORS, Arg, Variant, words_of
from mace_cpu.recurrent.lower import GATES, Sizes, check_functions, emit_cell, shared_words
from mace_cpu.shared.checks import FLOAT32, all_concrete, dtype_in
from mace_cpu.shared.codegen.generated import generated
from mace_cpu.shared.epilogue.requantize import Requantization
from mace_cpu.shared.nodes import fixed, need
from mace_cpu.shared.parts.buffers import Buf
from mace_cpu.shared.parts.steps import Words
from mace_cpu.shared.program.program import Program
from mace_cpu.shared.quads import QUAD, SIGN, QuadUnit, pack_quads, signed_weights
from mace_cpu.shared.registry import lowers

BYTES = frozenset({DType.INT8, DType.UINT8})
MOST_HIDDEN = 1 << 15
"""Sums of so many products of bytes stay within int32."""

WORK_PER_MAC = 1 / 32

Array = npt.NDArray[Any]


def _check(view: GraphView, node: Node) -> str | None:
    reason = all_concrete(view, node)
    for index in (0, 3, 5, 6, 7, 8, 10):
        reason = reason or dtype_in(view, node.input(index), FLOAT32)
    for index, what in ((1, "W"), (2, "R")):
        zeros = {1: 9, 2: 11}[index]
        reason = reason or dtype_in(view, node.input(index), BYTES) or dtype_in(view, node.input(zeros), BYTES)
        for constant in (index, zeros, zeros - 1):
            reason = reason or fixed(view, node, constant, f"what {what} is made of")
    if reason is None and view.shape(need(node.input(2)))[1] > MOST_HIDDEN:
        reason = f"sums of more than {MOST_HIDDEN} products of bytes may leave 32 bits"
    return reason or check_functions(view, node)


@lowers("DynamicQuantizeLSTM", check=_check, domain="com.microsoft")
def lower_dynamic_lstm(program: Program, node: Node) -> None:
    steps, batch, features = program.facts.shape(need(node.input(0)))
    directions, hidden, _ = program.facts.shape(need(node.input(2)))
    sizes = Sizes(steps, batch, directions, features, hidden, GATES[node.op_type], batch_first=False)
    work = sizes.sequences * max(steps, 1) * hidden * sizes.width * WORK_PER_MAC
    chunks = program.steps.chunks(sizes.sequences, work)
    words = shared_words(program, node, sizes)
    words[Arg.PROJECTED] = _project(program, node, sizes)
    words |= _packed(program, node, sizes, chunks)
    has_zeros = words[Arg.ZEROS] != 0
    note = f"int8 {QuadUnit.of(program.settings.target).value}"
    kernel = functools.partial(_kernel, node.input(7) is not None, has_zeros)
    emit_cell(program, node, sizes, words, work, chunks, kernel, note)


def _kernel(peepholes: bool, zeros: bool, functions: str) -> KernelSource:
    tags = [functions.replace("-", "_"), *["peepholes"] * peepholes, "bytes", *["zeros"] * zeros]
    variant = Variant("lstm", tuple(functions.split("-")), peepholes, rounded=True, zeros=zeros)
    symbol = "_".join(["lstm", *tags])
    return generated("mace_cpu.recurrent.generate", symbol, variant, words=lambda: words_of(len(variant.functions)))


def _project(program: Program, node: Node, sizes: Sizes) -> Buf:
    """The input, rounded, times W, for all steps at once: (steps * batch, directions * gates * hidden)."""
    rows, columns = sizes.steps * sizes.batch, sizes.directions * sizes.width
    if rows * columns == 0 or sizes.features == 0:  # no step, no sequence or no feature: a sum of nothing
        return program.constants.put(np.zeros(max(rows * columns, 1), np.float32))
    stored, scale, zero = (
        Value(f"{node.name}/input/{what}", TensorType(dtype, shape))
        for what, dtype, shape in (
            ("quantized", DType.UINT8, (rows, sizes.features)),
            ("scale", DType.FLOAT32, (1,)),
            ("zero point", DType.UINT8, (1,)),
        )
    )
    source, lengths = program.values.read(need(node.input(0))), node.input(4)
    counted = None
    if lengths is not None:
        width = sizes.batch * sizes.features
        counted = emit_longest(program, program.values.read(lengths), sizes.batch, sizes.steps, width)
    target, scale_at, zero_at = (program.values.write(value) for value in (stored, scale, zero))
    emit_dynamic_bytes(program, source, rows * sizes.features, target, scale_at, zero_at, counted)
    known, scales, zeros = _weights(program, node, 1, 8)
    side_by_side = np.ascontiguousarray(known.transpose(1, 0, 2)).reshape(sizes.features, columns)
    weights = _constant(program, f"{node.name}/W", known[0] if sizes.directions == 1 else side_by_side)
    zero_points = _constant(program, f"{node.name}/W/zero points", zeros.reshape(-1)) if zeros.any() else None
    factors = Factors(stored, weights, zero, zero_points)
    padded = padded_columns(program, shape_of(program, factors))
    found = Buf.scratch(4 * padded)
    program.steps.emit(
        numba_source(PRODUCTS, "factors"),
        {
            "left": scale_at,
            "right": program.constants.put(np.ascontiguousarray(scales.reshape(-1))),
            "target": found,
            "count": columns,
            "columns": columns,
            "padded": padded,
        },
        extent=1,
        work=columns,
        name="Scales",
    )
    result = Buf.scratch(4 * rows * columns)
    emit_bytes_product(program, factors, Finish(Requantization("float32"), result, scales=found))
    return result


def _constant(program: Program, name: str, content: Array) -> Value:
    value = Value(name, TensorType(DType.from_numpy(content.dtype), content.shape))
    program.facts.know(value, content)
    return value


def _weights(program: Program, node: Node, index: int, scale: int) -> tuple[Array, Array, Array]:
    """(directions, inputs, columns), and scales and zero points as (directions, columns)."""
    known, scales, zeros = (program.facts.constant_of(node.input(i)) for i in (index, scale, scale + 1))
    assert known is not None and scales is not None and zeros is not None
    directions, _, columns = known.shape
    shape = (directions, columns)
    wide = [np.broadcast_to(array.reshape(directions, -1), shape) for array in (scales, zeros)]
    return known, np.ascontiguousarray(wide[0], np.float32), np.ascontiguousarray(wide[1], known.dtype)


def _packed(program: Program, node: Node, sizes: Sizes, chunks: int) -> Words:
    """The recurrent weights in panels of quads, what belongs to their columns, and scratch memory."""
    known, scales, zeros = _weights(program, node, 2, 10)
    lanes = program.settings.target.vector_bits // 32
    panel = PANEL_VECTORS * lanes
    panels = -(-sizes.width // panel)
    shift = SIGN if known.dtype == np.uint8 else 0
    signed = signed_weights(known)
    points = zeros.astype(np.int32) - shift
    sums = signed.sum(axis=1, dtype=np.int32) - sizes.hidden * points

    def by_column(array: Array) -> Buf:
        full = np.zeros((sizes.directions, panels * panel), array.dtype)
        full[:, : sizes.width] = array
        return program.constants.put(full)

    room = (panels * panel) + 3 * sizes.hidden + -(-sizes.hidden // lanes) * lanes // QUAD + 1
    room = -(-room // lanes) * lanes
    way = ("quads of directions", panel, shift)
    return {
        Arg.RECURRENT: program.constants.packed(known, way, lambda: pack_quads(signed, panel)),
        Arg.SUMS: by_column(sums),
        Arg.ZEROS: by_column(points) if points.any() else 0,
        Arg.SCALES: by_column(scales),
        Arg.PANELS: panels,
        Arg.ROOM: room,
        Arg.SCRATCH: Buf.scratch(4 * chunks * room),
    }
