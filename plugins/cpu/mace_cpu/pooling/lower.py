"""MaxPool, AveragePool, LpPool and the global poolings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mace_core.graph import GraphView, Node, Value, sliding_window
from mace_core.native.kernel_words import WordLayout
from mace_core.native.numba_kernel import numba_source
from mace_core.native.source import KernelSource
from mace_core.symbolic import is_same, is_symbolic, maximum
from mace_core.tensor import DType
from mace_cpu.pooling.arguments import Arg
from mace_cpu.pooling.bytes import WORDS, WORDS_OF_MEANS, BytePool
from mace_cpu.reduction.lower import emit_reduction
from mace_cpu.shared.checks import all_concrete, dtype_in
from mace_cpu.shared.codegen.generated import generated
from mace_cpu.shared.nodes import need
from mace_cpu.shared.parts.buffers import Buf, Layout
from mace_cpu.shared.parts.forms import WindowForm
from mace_cpu.shared.parts.steps import Word
from mace_cpu.shared.pixels.reduce import emit_blocked_pixels
from mace_cpu.shared.program.blocked import is_worth_blocks
from mace_cpu.shared.program.floats_last import show_floats_last, wants_channels_last
from mace_cpu.shared.program.program import Program
from mace_cpu.shared.registry import lowers

KERNELS = "mace_cpu.pooling.kernels"
FLOATS = frozenset({DType.FLOAT32, DType.FLOAT64})
MAX_POOL_TYPES = FLOATS | {DType.INT8, DType.UINT8, DType.INT16, DType.UINT16}
MOST_SPATIAL_AXES = 3

MOVING_WORK = 0.5
"""What reading an element from memory counts as, in scalar operations of a step's work."""


@dataclass(frozen=True, slots=True)
class Windows:
    """Pooling geometry, three entries each; axes that a tensor lacks come first with size 1."""

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    taps: tuple[int, ...]
    strides: tuple[int, ...]
    begins: tuple[int, ...]
    dilations: tuple[int, ...]
    ends: tuple[int, ...]

    def words(self, include_pad: int, p: int) -> dict[str, int | tuple[int, ...]]:
        """As the kernels read it."""
        return {
            "inputs": self.inputs,
            "outputs": self.outputs,
            "taps": self.taps,
            "strides": self.strides,
            "begins": self.begins,
            "dilations": self.dilations,
            "ends": self.ends,
            "counts_padding": include_pad,
            "p": p,
        }

    def vector_words(self, include_pad: int, channels: int = 0) -> dict[Arg, int]:
        """As the kernels for vectors of channels read it, which know two axes."""
        return {
            Arg.IN_ROWS: self.inputs[1],
            Arg.IN_WIDTH: self.inputs[2],
            Arg.OUT_ROWS: self.outputs[1],
            Arg.OUT_WIDTH: self.outputs[2],
            Arg.TAP_ROWS: self.taps[1],
            Arg.TAP_COLUMNS: self.taps[2],
            Arg.ROW_STRIDE: self.strides[1],
            Arg.COLUMN_STRIDE: self.strides[2],
            Arg.PAD_TOP: self.begins[1],
            Arg.PAD_LEFT: self.begins[2],
            Arg.ROW_DILATION: self.dilations[1],
            Arg.COLUMN_DILATION: self.dilations[2],
            Arg.PAD_BOTTOM: self.ends[1],
            Arg.PAD_RIGHT: self.ends[2],
            Arg.COUNTS_PADDING: include_pad,
            Arg.CHANNELS: channels,
        }

    def blocked_form(self, planes: int) -> WindowForm:
        """What those who join the pooling of channel blocks with the step before it need to know."""
        span = (self.taps[1] - 1) * self.dilations[1] + 1
        return WindowForm(
            planes, self.inputs[1], self.inputs[2], self.outputs[1], self.strides[1], self.begins[1], span
        )


def windows_of(node: Node, source: Sequence[int], target: Sequence[int]) -> Windows:
    """Geometry of a pooling node from its attributes and the shapes (N, C, *spatial) of its input and output."""
    sizes, results = source[2:], target[2:]
    rank = len(sizes)
    window = sliding_window(node, sizes, node.attr("kernel_shape"))

    def padded(values: Sequence[int], filler: int) -> tuple[int, ...]:
        return (filler,) * (MOST_SPATIAL_AXES - rank) + tuple(values)

    return Windows(
        padded(sizes, 1),
        padded(results, 1),
        padded(window.kernel, 1),
        padded(window.strides, 1),
        padded(window.begins, 0),
        padded(window.dilations, 1),
        padded(window.ends, 0),
    )


def _check_pool(view: GraphView, node: Node) -> str | None:
    reason = all_concrete(view, node) or dtype_in(
        view, node.input(0), MAX_POOL_TYPES if node.op_type == "MaxPool" else FLOATS
    )
    if reason is not None:
        return reason
    spatial = len(view.shape(need(node.input(0)))) - 2
    if not 1 <= spatial <= MOST_SPATIAL_AXES:
        return f"pooling over {spatial} spatial axes; the kernels take one to {MOST_SPATIAL_AXES}"
    if node.op_type == "LpPool" and view.opset() < 2:
        return "LpPool of opset 1 takes a fractional p"
    return None


@lowers("MaxPool", "AveragePool", "LpPool", check=_check_pool)
def lower_pool(program: Program, node: Node) -> None:
    source, target, indices = need(node.input(0)), need(node.output(0)), node.output(1)
    kind = {"MaxPool": "max", "AveragePool": "average", "LpPool": "lp"}[node.op_type]
    windows = windows_of(node, program.facts.shape(source), program.facts.shape(target))
    if indices is None and kind == "max" and program.values.prefers_channels_last(source):
        words: dict[str, Word] = {"counts_padding": 0, "x_zero": 0, "ratio": 0.0}
        emit_byte_pool(program, BytePool(program.facts.dtype(source).label), source, target, windows, words)
        return
    include_pad = int(node.attr("count_include_pad", 0))
    if indices is None and kind != "lp" and _pool_channels_last(program, node, kind, windows, include_pad):
        return
    work: float = program.facts.size(target) * math.prod(windows.taps)
    dtype = program.facts.dtype(source)
    is_flat = len(program.facts.shape(source)) <= 4
    form: WindowForm | None = None
    arguments: dict[Any, Word | Sequence[Word]]
    if (
        indices is None
        and kind != "lp"
        and dtype is DType.FLOAT32
        and is_flat
        and (program.values.prefers_blocked(source) or is_worth_blocks(program, source))
    ):
        n, c, *_ = program.facts.shape(source)
        planes = n * -(-c // program.settings.block)
        kernel = window_pool_kernel(program.settings.block, kind)
        arguments = {
            Arg.SOURCE: program.values.read(source, Layout.BLOCKED),
            Arg.TARGET: program.values.write(target, Layout.BLOCKED),
            **windows.vector_words(include_pad),
        }
        if windows.outputs[0] == windows.inputs[0] == 1:
            form = windows.blocked_form(planes)
        work = (
            maximum(program.facts.size(source), program.facts.size(target)) * MOVING_WORK
            + work // program.settings.block
        )
    else:
        planes = math.prod(program.facts.shape(source)[:2])
        arguments = {
            "source": program.values.read(source),
            "target": program.values.write(target),
            **windows.words(include_pad, int(node.attr("p", 2))),
        }
        if indices is None:
            kernel = numba_source(KERNELS, "pool_plain", dtype=dtype.label, kind=kind)
        else:
            kernel = numba_source(KERNELS, "max_pool_indices", dtype=dtype.label)
            arguments |= {"indices": program.values.write(indices), "column_major": int(node.attr("storage_order", 0))}
    rows = planes * windows.outputs[0] * windows.outputs[1]
    program.steps.emit(kernel, arguments, extent=0 if program.facts.size(target) == 0 else rows, work=work, form=form)


def _pool_channels_last(program: Program, node: Node, kind: str, windows: Windows, include_pad: int) -> bool:
    """Pool floats whose channels lie last, and leave them so, where those behind want that."""
    source, target = need(node.input(0)), need(node.output(0))
    lies = program.values.shown_channels_last(source)
    shape, block = program.facts.shape(source), program.settings.block
    if (
        lies is None
        or program.facts.dtype(source) is not DType.FLOAT32
        or len(shape) > 4
        or is_symbolic(shape[1])
        or shape[1] < block
        or not wants_channels_last(program, target)
    ):
        return False
    size, buf = program.facts.size(target), Buf.scratch(program.facts.nbytes(target))
    arguments: dict[Any, Word | Sequence[Word]] = {
        Arg.SOURCE: lies,
        Arg.TARGET: buf,
        **windows.vector_words(include_pad, shape[1]),
    }
    program.steps.emit(
        window_pool_kernel(block, kind, function="build_channels_last"),
        arguments,
        extent=0 if size == 0 else shape[0] * windows.outputs[0] * windows.outputs[1],
        work=maximum(program.facts.size(source), size) * MOVING_WORK + size * math.prod(windows.taps) // block,
    )
    show_floats_last(program, node, target, buf)
    return True


def emit_byte_pool(
    program: Program, pool: BytePool, source: Value, target: Value, windows: Windows, words: Mapping[str, Word]
) -> None:
    """Pool numbers of 8 or 16 bits that lie channels last; ``words``: what differs between kinds of pooling."""
    size = program.facts.size(target)
    program.steps.emit(
        byte_pool_kernel(pool),
        {
            "source": program.values.read(source, Layout.CHANNELS_LAST),
            "target": program.values.write(target, Layout.CHANNELS_LAST),
            "channels": program.facts.shape(source)[1],
            "inputs": windows.inputs,
            "outputs": windows.outputs,
            "taps": windows.taps,
            "strides": windows.strides,
            "begins": windows.begins,
            "dilations": windows.dilations,
            "ends": windows.ends,
            **words,
        },
        extent=0 if is_same(size, 0) else program.facts.shape(target)[0] * windows.outputs[0] * windows.outputs[1],
        work=size * math.prod(windows.taps) / 16,
    )


# --- global -----------------------------------------------------------------------------------------------------------


def _check_global(view: GraphView, node: Node) -> str | None:
    reason = all_concrete(view, node) or dtype_in(view, node.input(0), FLOATS)
    if reason is None and len(view.shape(need(node.input(0)))) < 3:
        return "there is no spatial axis to pool over"
    if reason is None and node.op_type == "GlobalLpPool" and view.opset() < 2:
        return "GlobalLpPool of opset 1 takes a fractional p"
    return reason


@lowers("GlobalAveragePool", "GlobalMaxPool", check=_check_global)
def lower_global_pool(program: Program, node: Node) -> None:
    source, target = need(node.input(0)), need(node.output(0))
    kind = "mean" if node.op_type == "GlobalAveragePool" else "max"
    if not emit_blocked_pixels(program, source, target, kind):
        axes = list(range(2, len(program.facts.shape(source))))
        emit_reduction(program, source, target, axes, kind)


@lowers("GlobalLpPool", check=_check_global)
def lower_global_lp_pool(program: Program, node: Node) -> None:
    """A window as large as the picture."""
    source, target = need(node.input(0)), need(node.output(0))
    n, c, *spatial = program.facts.shape(source)
    pixels = math.prod(spatial)
    ones, zeros = (1,) * 3, (0,) * 3
    windows = Windows((1, 1, pixels), ones, (1, 1, pixels), ones, zeros, ones, zeros)
    program.steps.emit(
        numba_source(KERNELS, "pool_plain", dtype=program.facts.dtype(source).label, kind="lp"),
        {
            "source": program.values.read(source),
            "target": program.values.write(target),
            **windows.words(0, int(node.attr("p", 2))),
        },
        extent=n * c,
        work=program.facts.size(source),
    )


def window_pool_kernel(block: int, kind: str, function: str = "build_windows") -> KernelSource:
    """The kernel that pools windows; kinds "max" and "average"."""
    symbol = f"pool_{'b' if function == 'build_windows' else 'last'}{block}_{kind}"
    return generated(
        "mace_cpu.pooling.generate", symbol, block, kind, words=lambda: WordLayout.of(Arg), function=function
    )


def byte_pool_kernel(pool: BytePool) -> KernelSource:
    """The kernel that pools bytes that lie channels last; one unit is one row of the result."""
    words = WORDS if pool.mean is None else WORDS_OF_MEANS
    return generated("mace_cpu.pooling.generate_bytes", pool.symbol, pool, words=lambda: words)
