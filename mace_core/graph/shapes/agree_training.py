"""Agreement in optimizer steps: how many tensors are updated, each with its gradient and its states."""

from __future__ import annotations

from mace_core.graph.shapes.agreement import agreement, require
from mace_core.graph.shapes.context import NodeContext

_TENSORS = {"Adagrad": 3, "Adam": 4, "Momentum": 3}
"""What belongs to one tensor among the inputs: itself, its gradient, its states; all but the gradient is given back."""


@agreement("Adagrad", "Adam", "Momentum", domain="ai.onnx.preview.training")
def optimizer(ctx: NodeContext) -> None:
    each = _TENSORS[ctx.node.op_type]
    count, left = divmod(ctx.input_count - 2, each)
    require(count >= 1 and not left, f"behind the rate and the step there must be {each} inputs for each tensor")
    wanted = count * (each - 1)
    require(ctx.output_count == wanted, f"it updates {wanted} values, the node has {ctx.output_count} outputs")
