"""Inputs that must be of one element type, since the standard binds them to one type variable.

Kernels read all of them as the type of the first.  Scales and zero points have checks of their own
(`quantized_operands.py`), and operators for which versions of the standard differ are left out; versions with one input
do not count, since what they lack cannot differ.
"""

from __future__ import annotations

from mace_core.operators.registry import one_type

one_type("Add", "Sub", "Mul", "Div", "And", "Or", "Xor", "Mod", "MatMul", "PRelu", inputs=(0, 1))
one_type("BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor", inputs=(0, 1))
one_type("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", inputs=(0, 1))
one_type("MaxRoiPool", "RoiAlign", "StringConcat", "SwiGLU", "TensorScatter", inputs=(0, 1))
one_type("Concat", "Einsum", "Max", "Mean", "Min", "Sum", inputs=())
one_type("Clip", "Conv", "ConvTranspose", "Gemm", "Range", "RotaryEmbedding", inputs=(0, 1, 2))
one_type("GroupNormalization", "InstanceNormalization", "LayerNormalization", inputs=(0, 1, 2))
one_type("Pad", "NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss", inputs=(0, 2))
one_type("Scatter", "ScatterElements", "ScatterND", inputs=(0, 2))
one_type("Col2Im", "MaxUnpool", "Where", inputs=(1, 2))
one_type("CausalConvWithState", inputs=(0, 1, 2, 3))
one_type("NonMaxSuppression", inputs=(0, 1, 3, 4))
one_type("DeformConv", inputs=(0, 1, 2, 3, 4))
one_type("LinearAttention", inputs=(0, 1, 2, 4, 5))
one_type("GRU", "RNN", inputs=(0, 1, 2, 3, 5))
one_type("LSTM", inputs=(0, 1, 2, 3, 5, 6, 7))
one_type("Slice", inputs=(1, 2, 3, 4))
one_type("Attention", inputs=(0, 1, 4), others=(2, 5))
one_type("MelWeightMatrix", inputs=(0, 1, 2), others=(3, 4))
one_type("STFT", inputs=(0, 2), others=(1, 3))
