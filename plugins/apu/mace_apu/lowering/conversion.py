"""QuantizeLinear on its own; DequantizeLinear is emitted where its result is read."""

from __future__ import annotations

from mace_apu.lowering.context import NodeContext
from mace_apu.lowering.errors import DeclinedError
from mace_apu.lowering.table import LOWERINGS
from mace_apu.neuron.constants import Operation
from mace_core.graph import node_encoding


def _quantize(context: NodeContext) -> None:
    encoding = node_encoding(context.lowering.view, context.node)
    if encoding is None or encoding.axis is not None or encoding.block_size:
        raise DeclinedError("QuantizeLinear per channel, in blocks or by computed scales is not offered by Neuron")
    order, stored = context.order(), context.result()
    result = context.lowering.new_operand(stored, order, encoding)
    context.lowering.add(Operation.QUANTIZE, [context.x(0, order)], [result])
    context.lowering.define(stored, result, order)


LOWERINGS.add({"QuantizeLinear": _quantize})
