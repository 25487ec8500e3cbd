"""QuantizeRows: bytes of floats by the range of each row."""

from __future__ import annotations

import math

from mace_core.graph import GraphView, Node, Value
from mace_core.native.kernel_words import WordLayout
from mace_core.native.source import KernelSource
from mace_core.symbolic import ceiling, hint, is_symbolic
from mace_cpu.shared.checks import FLOAT32, all_concrete, dtype_in
from mace_cpu.shared.codegen.generated import generated
from mace_cpu.shared.layouts.strided import emit_dense
from mace_cpu.shared.nodes import need, normal_axis
from mace_cpu.shared.parts.buffers import Buf, Layout
from mace_cpu.shared.parts.views import Strided
from mace_cpu.shared.program.floats_last import ROWS, reads_channels_last
from mace_cpu.shared.program.program import Program
from mace_cpu.shared.registry import lowers

GENERATOR = "mace_cpu.quantized.rows.generate"
ROWS_WORDS = WordLayout.parse("source target zeros sizes length")
RANGES_WORDS = WordLayout.parse("source lows highs length pieces piece")
PARAMETERS_WORDS = WordLayout.parse("lows highs inverses zeros sizes pieces")
BYTES_WORDS = WordLayout.parse("source target inverses zeros length pieces piece")

PIECE = 8192
"""Elements of a unit of work, of rows that are longer than two of them."""

MOST_VECTORS = 8
"""Of a row for which there is code of its own, without a loop."""

WORK_PER_ELEMENT = 0.5


def _axes(node: Node, rank: int) -> list[int]:
    return sorted({normal_axis(int(axis), rank) for axis in node.attr("axes")})


def _check(view: GraphView, node: Node) -> str | None:
    reason = all_concrete(view, node) or dtype_in(view, node.input(0), FLOAT32)
    if reason is not None:
        return reason
    shape = view.shape(need(node.input(0)))
    axes = _axes(node, len(shape))
    if axes == [len(shape) - 1] or (3 <= len(shape) <= 4 and axes in ([1], list(range(1, len(shape))))):
        return None
    return "its rows do not lie together in one of the orders that there are kernels for"


@lowers("QuantizeRows", check=_check, domain=ROWS)
def lower_quantize_rows(program: Program, node: Node) -> None:
    facts, values = program.facts, program.values
    x, content = need(node.input(0)), need(node.output(0))
    shape = facts.shape(x)
    axes = _axes(node, len(shape))
    if reads_channels_last(program, node):
        source, target = floats_channels_last(program, x), values.write(content, Layout.CHANNELS_LAST)
    else:
        source, target = values.read(x), values.write(content)
    length = math.prod(shape[axis] for axis in axes)
    rows = math.prod(size for axis, size in enumerate(shape) if axis not in axes)
    zeros, sizes = (
        Buf.scratch(nbytes * rows) if value is None else values.write(value)
        for value, nbytes in ((node.output(1), 1), (node.output(2), 4))
    )
    _emit(program, str(node.attr("rule")), (source, target, zeros, sizes), rows, length)


def _emit(program: Program, rule: str, bufs: tuple[Buf, Buf, Buf, Buf], rows: int, length: int) -> None:
    source, target, zeros, sizes = bufs
    work = rows * length * WORK_PER_ELEMENT
    if hint(length) <= 2 * PIECE and not is_symbolic(length):
        vectors, rest = divmod(length, program.settings.target.vector_bits // 32)
        program.steps.emit(
            _kernel("build", ROWS_WORDS, rule, 0 if rest or vectors > MOST_VECTORS else vectors),
            {"source": source, "target": target, "zeros": zeros, "sizes": sizes, "length": length},
            extent=rows,
            work=work,
            name="QuantizeRows",
        )
        return
    pieces = ceiling(length, PIECE)
    lows, highs, inverses = (Buf.scratch(4 * count) for count in (rows * pieces, rows * pieces, rows))
    cut = {"length": length, "pieces": pieces, "piece": PIECE}
    program.steps.emit(
        _kernel("build_ranges", RANGES_WORDS),
        {"source": source, "lows": lows, "highs": highs, **cut},
        extent=rows * pieces,
        work=work / 2,
        name="RowRanges",
    )
    program.steps.emit(
        _kernel("build_parameters", PARAMETERS_WORDS, rule),
        {"lows": lows, "highs": highs, "inverses": inverses, "zeros": zeros, "sizes": sizes, "pieces": pieces},
        extent=rows,
        work=rows * pieces,
        name="RowParameters",
    )
    program.steps.emit(
        _kernel("build_bytes", BYTES_WORDS, rule),
        {"source": source, "target": target, "inverses": inverses, "zeros": zeros, **cut},
        extent=rows * pieces,
        work=work,
        name="QuantizeRows",
    )


def _kernel(function: str, words: WordLayout, *variant: str | int) -> KernelSource:
    symbol = "_".join([function.replace("build", "rows"), *map(str, variant)])
    return generated(GENERATOR, symbol, *variant, words=lambda: words, function=function)


def floats_channels_last(program: Program, value: Value) -> Buf:
    """float32 (N, C, ...) in the order (N, ..., C): where they lie, or copied."""
    facts, values = program.facts, program.values
    found = values.shown_channels_last(value)
    if found is not None:
        return found
    shape, block = facts.shape(value), facts.block
    target = Buf.scratch(facts.nbytes(value))
    pixels = math.prod(shape[2:])
    if values.prefers_blocked(value) and not is_symbolic(shape[1]) and shape[1] % block == 0:
        blocks = shape[1] // block
        strides = (shape[1] * pixels, block, pixels * block, 1)
        strided = Strided(values.read(value, Layout.BLOCKED), 0, (shape[0], pixels, blocks, block), strides)
    else:
        strided = values.strided(value).permuted((0, *range(2, len(shape)), 1))
    emit_dense(program.steps, facts.dtype(value), strided, target)
    return target
