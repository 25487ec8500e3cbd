"""The code of an epilogue."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from llvmlite import ir

from mace_cpu.shared.codegen import vector_activation
from mace_cpu.shared.codegen.body import Body
from mace_cpu.shared.codegen.vector_basic import splat
from mace_cpu.shared.epilogue.operations import EpilogueOp


class EpilogueCode:
    """The epilogue of a kernel, whose operands are its last argument words.

    Attributes:
        ops: what is done, first to last.
        channels, tensors: addresses of the operands, in order.
    """

    def __init__(self, body: Body, first: int, ops: Sequence[EpilogueOp]) -> None:
        """
        Args:
            body: of the kernel, where its argument words are loaded.
            first: the first word behind those that the kernel has without an epilogue.
            ops: what is done.
        """
        operands = [op.operand for op in ops]
        self.ops = ops
        self.channels = [body.pointer(first + i) for i in range(operands.count("channel"))]
        first += len(self.channels)
        self.tensors = [body.pointer(first + i) for i in range(operands.count("tensor"))]

    def emit(
        self,
        builder: ir.IRBuilder,
        x: ir.Value,
        *,
        channel: Callable[[int], ir.Value],
        tensor: Callable[[int], ir.Value],
    ) -> ir.Value:
        """Generate the operations on ``x`` (float32, a scalar or vector) and return the result.

        Args:
            builder: where to generate.
            x: accumulators to be stored next to each other.
            channel: loads the elements of ``channels[i]`` that belong to ``x``: of its type, or a scalar for all lanes.
            tensor: loads the elements of ``tensors[i]`` that belong to ``x``, of its type.
        """
        next_operand = {"channel": 0, "tensor": 0}
        saved: list[ir.Value] = []
        for op in self.ops:
            if op.kind == "save":
                saved.append(x)
                continue
            if op.kind == "swap":
                x, saved[-1] = saved[-1], x
                continue
            if op.operand == "saved":
                x = _emit_binary(builder, op.kind, x, saved.pop())
                continue
            if not op.operand:
                x = getattr(vector_activation, op.kind)(builder, x, *op.parameters)
                continue
            load = channel if op.operand == "channel" else tensor
            other = splat(builder, load(next_operand[op.operand]), x.type)
            next_operand[op.operand] += 1
            x = _emit_binary(builder, op.kind, x, other)
        return x


def _emit_binary(builder: ir.IRBuilder, kind: str, x: ir.Value, other: ir.Value) -> ir.Value:
    if kind == "add":
        return builder.fadd(x, other)
    if kind == "sub":
        return builder.fsub(x, other)
    if kind == "rsub":
        return builder.fsub(other, x)
    if kind == "mul":
        return builder.fmul(x, other)
    if kind == "div":
        return builder.fdiv(x, other)
    if kind == "prelu":
        return vector_activation.prelu(builder, x, other)
    raise ValueError(f"no such epilogue operation: {kind}")
