"""Steps between float32 and numbers of 8 or 16 bits with one scale for all, where the zero point is known."""

from __future__ import annotations

import numpy as np

from mace_core.graph import Node
from mace_core.native.kernel_words import WordLayout
from mace_core.native.source import KernelSource
from mace_core.tensor import DType
from mace_cpu.quantized.integer_form import NUMBERS
from mace_cpu.shared.codegen.generated import generated
from mace_cpu.shared.nodes import need
from mace_cpu.shared.parts.buffers import Layout
from mace_cpu.shared.parts.steps import Word
from mace_cpu.shared.program.program import Program

GENERATOR = "mace_cpu.quantized.generate_border"
UNIT = 8192
"""Numbers of one unit of work."""

HEAD = "source scale target size unit"


def emit_border(program: Program, node: Node) -> bool:
    """Emit a QuantizeLinear or a DequantizeLinear; whether it is one of those that this is for."""
    source, scale, target = need(node.input(0)), need(node.input(1)), need(node.output(0))
    facts = program.facts
    is_quantize = node.op_type == "QuantizeLinear"
    numbers, reals = (target, source) if is_quantize else (source, target)
    zero = 0
    if node.input(2) is not None:
        known = facts.constant_of(node.input(2))
        if known is None or known.size != 1:
            return False
        zero = int(known.reshape(-1)[0])
    if facts.dtype(numbers) not in NUMBERS or facts.dtype(reals) is not DType.FLOAT32:
        return False
    if facts.dtype(scale) is not DType.FLOAT32 or facts.size(scale) != 1 or node.attr("block_size", 0):
        return False
    if int(node.attr("precision", 0)) not in (0, DType.FLOAT32.value):
        return False
    lies = program.values.shown_channels_last(source) if is_quantize else None
    size, label = facts.size(source), facts.dtype(numbers).label
    limits = np.iinfo(facts.dtype(numbers).numpy)
    words: dict[str, Word] = {
        "source": program.values.read(source) if lies is None else lies,
        "scale": program.values.read(scale),
        "target": program.values.write(target, Layout.PLAIN if lies is None else Layout.CHANNELS_LAST),
        "size": size,
        "unit": UNIT,
        "zero": zero,
    }
    if is_quantize:
        words |= {"low": int(limits.min), "high": int(limits.max)}
    kernel = _quantize(label) if is_quantize else _dequantize(label)
    program.steps.emit(kernel, words, extent=-(-size // UNIT), work=size)
    return True


def _quantize(result: str) -> KernelSource:
    words = WordLayout.parse(f"{HEAD} zero low high")
    return generated(GENERATOR, f"quantize_to_{result}", result, words=lambda: words, function="build_quantize")


def _dequantize(source: str) -> KernelSource:
    words = WordLayout.parse(f"{HEAD} zero")
    return generated(GENERATOR, f"dequantize_{source}", source, words=lambda: words, function="build_dequantize")
