"""Which operators have a quantized form, and what that asks of the encodings around them."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Form(enum.Enum):
    """What a quantized operator does with its inputs."""

    PRODUCT = "product"
    """Multiplies with weights, or two computed values with one another, and sums in 32 bits."""
    ELEMENTWISE = "elementwise"
    """Computes each number of the result from numbers at the same place."""
    POOL = "pool"
    """Sums within each channel: the result has a range of its own."""
    MOVE = "move"
    """Only moves or selects numbers: its result has the encoding of its input."""
    JOIN = "join"
    """Puts several values together: all share one encoding."""


@dataclass(frozen=True, slots=True)
class OperatorRule:
    """How an operator is quantized.

    Attributes:
        form: see `Form`.
        data: indices of the inputs that are quantized; None: all. Others (axes, sizes, bounds) stay as they are.
        fixed: the range of the result that is taken whatever is observed.
        before: attribute values without which it has no quantized form.
    """

    form: Form
    data: tuple[int, ...] | None = (0,)
    fixed: tuple[float, float] | None = None


_MOVES = (
    *("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Slice", "Split", "Gather", "DepthToSpace"),
    *("SpaceToDepth", "Expand", "Tile", "Identity", "MaxPool", "Resize", "Pad"),
)
_ELEMENTWISE = (
    *("Relu", "Clip", "LeakyRelu", "Elu", "Sigmoid", "Tanh", "HardSigmoid", "HardSwish", "Gelu", "Mish", "Swish"),
)

RULES: dict[str, OperatorRule] = {
    "Conv": OperatorRule(Form.PRODUCT, (0, 1)),
    "ConvTranspose": OperatorRule(Form.PRODUCT, (0, 1)),
    "Gemm": OperatorRule(Form.PRODUCT, (0, 1)),
    "MatMul": OperatorRule(Form.PRODUCT, (0, 1)),
    "Add": OperatorRule(Form.ELEMENTWISE, None),
    "Sub": OperatorRule(Form.ELEMENTWISE, None),
    "Mul": OperatorRule(Form.ELEMENTWISE, None),
    "Div": OperatorRule(Form.ELEMENTWISE, None),
    "PRelu": OperatorRule(Form.ELEMENTWISE, None),
    "AveragePool": OperatorRule(Form.POOL),
    "GlobalAveragePool": OperatorRule(Form.POOL),
    "ReduceMean": OperatorRule(Form.POOL),
    "Concat": OperatorRule(Form.JOIN, None),
    "Softmax": OperatorRule(Form.ELEMENTWISE, (0,), (0.0, 255 / 256)),
    **{name: OperatorRule(Form.ELEMENTWISE) for name in _ELEMENTWISE},
    **{name: OperatorRule(Form.MOVE) for name in _MOVES},
}
"""By operator type of the standard domain."""

ACTIVATIONS = ("Relu", "Clip")
"""What a product or a sum does within the same step, before its result is quantized."""
