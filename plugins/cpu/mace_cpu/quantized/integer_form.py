"""The form in which quantized computations are lowered: operators that read and write quantized numbers.

What ONNX has an operator for is that operator (QLinearConv, QLinearMatMul).  Everything else is a node of the domain
`INTEGERS`, with the inputs of the operator it resembles:

==========================  ==========================================================================================
QLinearConv                 as ONNX has it; the bias may be float32, which is added in float
QLinearConvTranspose        the same for ConvTranspose
QLinearMatMul               as ONNX has it, and a ninth input: a bias along the last axis, int32 or float32
QGemm                       as onnxruntime has it; the bias is one number per column, int32 or float32
QLinearAdd, …Sub, Mul, Div  A, its scale and zero point, B, its scale and zero point, the result's scale and zero point
Table                       x of 8 bits, 256 results: the one for a byte is where the bits of the byte say
QLinearAveragePool, …       x, its scale and zero point, the result's scale and zero point; attributes of AveragePool,
                            GlobalAveragePool, ReduceMean (with the attribute ``axes``) or Softmax
QLinearResize               the four inputs of Resize, x's scale and zero point, the result's scale and zero point
==========================  ==========================================================================================

Where the result of a convolution or product has no scale and zero point, it is float32: operators of floats follow.

The attributes ``minimum`` and ``maximum`` of these nodes bound the result, in its own steps: a Relu or Clip that stood
between the operator and its QuantizeLinear.  Scales and zero points are constants and never left out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mace_core.graph import GraphView, Node, Value, node_encoding
from mace_core.tensor import DType

INTEGERS = "mace.integers"
"""The domain of operators that are only made here; no file has them."""

RESIZE_INPUTS = 4
"""Inputs of a QLinearResize that are those of Resize, before the encodings."""

BYTES = frozenset({DType.INT8, DType.UINT8})
WORDS = frozenset({DType.INT16, DType.UINT16})
NUMBERS = BYTES | WORDS
"""What activations are quantized to; weights are of 8 bits."""


@dataclass(frozen=True, slots=True)
class Encoding:
    """What quantized numbers stand for: ``(number - zero) * scale``; two are equal where they stand for the same.

    Attributes:
        dtype: of the numbers.
        scales, zeros: one for all, or one per entry of ``axis``.
        axis: None where there is one for all.
    """

    dtype: DType
    scales: tuple[float, ...]
    zeros: tuple[int, ...]
    axis: int | None = None

    @property
    def is_sound(self) -> bool:
        """Whether every scale is a positive number."""
        return all(0 < scale < float("inf") for scale in self.scales)

    def steps(self, real: float) -> int:
        """The number that stands for ``real``, saturated; of an encoding with one scale for all."""
        limits = np.iinfo(self.dtype.numpy)
        if np.isinf(real):
            return int(limits.max if real > 0 else limits.min)
        whole = float(np.rint(np.float32(real) / np.float32(self.scales[0]))) + self.zeros[0]
        return int(min(max(whole, limits.min), limits.max))


@dataclass(frozen=True, slots=True)
class Quantized:
    """Numbers and what they stand for.

    Attributes:
        value: the numbers.
        encoding: what they stand for.
        scale, zero: the same as inputs of nodes.
    """

    value: Value
    encoding: Encoding
    scale: Value
    zero: Value

    @property
    def inputs(self) -> tuple[Value, Value, Value]:
        """As inputs of a node."""
        return self.value, self.scale, self.zero


def encoding_of(view: GraphView, node: Node) -> Encoding | None:
    """What the numbers that a QuantizeLinear writes, or a DequantizeLinear reads, stand for.

    None where a scale or a zero point is not constant, or belongs to a block, or the scale is not float32.
    """
    scale = view.tensor_type(node.inputs[1]) if node.inputs[1] is not None else None
    found = node_encoding(view, node)
    if found is None or found.block_size or scale is None or scale.dtype is not DType.FLOAT32:
        return None
    axis = None if found.scale.size == 1 else found.axis
    return Encoding(
        found.dtype,
        tuple(found.scale.reshape(-1).tolist()),
        tuple(int(zero) for zero in found.zero_point.reshape(-1)),
        axis,
    )
