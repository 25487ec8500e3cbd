"""Channels of a convolution's input that are multiplied by a number each, as squeeze-and-excite does.

Where the weights are fewer than the pixels, it is them that are multiplied, before each run of the convolution.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mace_core.graph import Node, Value
from mace_core.native.kernel_words import WordLayout
from mace_core.native.source import KernelSource
from mace_core.symbolic import hint
from mace_core.tensor import DType
from mace_cpu.conv.geometry import conv_geometry
from mace_cpu.shared.codegen.generated import generated
from mace_cpu.shared.nodes import need
from mace_cpu.shared.parts.buffers import Buf, Layout
from mace_cpu.shared.program.fusion import Deferred
from mace_cpu.shared.program.program import Program
from mace_cpu.shared.registry import begins

FEWER = 3
"""A weight multiplied counts as so many pixels multiplied: it has to be read by the convolution from elsewhere."""


@dataclass(frozen=True, slots=True)
class ScaledInput(Deferred):
    """What a convolution reads instead of its input: ``source`` (1, C, ...) times ``scale`` (1, C, 1, ...)."""

    source: Value
    scale: Value


@begins("Mul")
def defer_scale(program: Program, node: Node) -> bool:
    """Leave a Mul of a picture and a number per channel to the convolution that alone reads it, if that is worth it."""
    product = need(node.output(0))
    user = program.fusion.sole_user(product)
    shape = program.facts.shape(product)
    if user is None or user.op_type != "Conv" or user.domain or user.inputs[0] is not product or len(shape) < 3:
        return False
    if shape[0] != 1 or program.facts.dtype(product) is not DType.FLOAT32 or program.settings.pair_unit is not None:
        return False  # (weights in bfloat16 are packed once)
    pair = _picture_and_scale(program, node)
    weights = program.facts.constant_of(user.inputs[1])
    if (
        pair is None
        or weights is None
        or (user.input(2) is not None and program.facts.constant_of(user.input(2)) is None)
    ):
        return False
    geometry = conv_geometry(user, shape, weights.shape, program.facts.shape(need(user.output(0))))
    taps = geometry.out_channels * math.prod(geometry.kernel)
    if geometry.groups != 1 or len(geometry.image) > 2 or program.facts.size(product) == 0:
        return False
    if program.facts.size(need(user.output(0))) == 0 or taps * FEWER > hint(math.prod(geometry.image)):
        return False
    program.fusion.defer(product, user, pair)
    return True


def _picture_and_scale(program: Program, node: Node) -> ScaledInput | None:
    """The operands of a Mul, if they are a BLOCKED value of the result's shape and one number per channel."""
    shape = program.facts.shape(need(node.output(0)))
    one_pixel = (1, shape[1], *(1 for _ in shape[2:]))
    left, right = need(node.input(0)), need(node.input(1))
    for picture, scale in ((left, right), (right, left)):
        if (
            program.facts.shape(picture) != shape
            or program.facts.shape(scale) != one_pixel
            or math.prod(shape[2:]) == 1
        ):
            continue
        if program.values.has(picture, Layout.BLOCKED) and program.values.is_ready(scale):
            return ScaledInput(picture, scale)
    return None


def emit_scaled_weights(program: Program, packed: npt.NDArray[np.float32], scale: Value) -> Buf:
    """The weights of a convolution, scaled before each run.

    They are packed as [group = 1][tile][in block][kernel row][tap][channel in block][columns].
    """
    _, tiles, in_blocks, *taps, block, columns = packed.shape
    target = Buf.scratch(packed.nbytes)
    channels = program.facts.shape(scale)[1]
    program.steps.emit(
        scale_kernel(columns),
        {
            "weights": program.constants.put(packed, in_place=True),
            "result": target,
            "numbers": program.values.read(scale),
            "channels": channels,
            "in_blocks": in_blocks,
            "taps": math.prod(taps),
            "block": block,
        },
        extent=tiles * in_blocks,
        work=packed.size,
        name="ScaleWeights",
    )
    return target


def scale_kernel(columns: int) -> KernelSource:
    """The kernel that multiplies rows of ``columns`` weights."""
    symbol = f"scale_weights_{columns}"
    words = functools.partial(WordLayout.parse, "weights result numbers channels in_blocks taps block")
    return generated("mace_cpu.conv.scaled.generate", symbol, columns, words=words)
