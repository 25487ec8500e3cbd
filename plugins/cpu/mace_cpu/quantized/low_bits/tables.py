"""Tables that a DequantizeLinear stands before, as nodes that gather entries and make floats of these alone."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mace_core.graph import Attribute, AttributeKind, GraphView, Node, Value
from mace_core.tensor import DType, Tensor, TensorType
from mace_cpu.quantized.low_bits.stored import LOW_BITS
from mace_cpu.shared.nodes import need, normal_axis

NUMBERS = frozenset({DType.INT8, DType.UINT8, DType.INT4, DType.UINT4})
SCALES = frozenset({DType.FLOAT32, DType.FLOAT16, DType.BFLOAT16})
INDICES = frozenset({DType.INT32, DType.INT64})


def stored_gather(view: GraphView, node: Node, source: Node) -> Node | None:
    """A node of `LOW_BITS` for a Gather from what ``source``, a DequantizeLinear, makes; None where there is none."""
    table, scale, zero = (view.constant(source.input(index)) for index in range(3))
    result = view.tensor_type(need(node.output(0)))
    indices = view.tensor_type(need(node.input(1)))
    if table is None or scale is None or (source.input(2) is not None and zero is None):
        return None
    if result is None or indices is None or indices.dtype not in INDICES or len(table.shape) != 2:
        return None
    if table.dtype not in NUMBERS or scale.dtype not in SCALES or result.dtype is not scale.dtype:
        return None
    block, axis = int(source.attr("block_size", 0)), normal_axis(int(source.attr("axis", 1)), 2)
    if not block:
        # one scale for each entry of an axis is one for a block that is as long as the other
        axis = 1 - axis if scale.size > 1 else 0
        block = table.shape[axis]
    shape = tuple(-(-size // block) if at == axis else size for at, size in enumerate(table.shape))
    if zero is None and table.dtype is DType.UINT8:
        zero = Tensor.from_numpy(np.zeros((), np.uint8))
    values = [
        None if tensor is None else _spread(node, name, tensor, shape) for name, tensor in (("s", scale), ("z", zero))
    ]
    made = Node(
        "GatherBlockQuantized",
        [source.input(0), node.input(1), *values],
        [None],
        name=node.name,
        domain=LOW_BITS,
        attributes={
            name: Attribute(AttributeKind.INT, number)
            for name, number in (
                ("gather_axis", int(node.attr("axis", 0))),
                ("quantize_axis", axis),
                ("block_size", block),
            )
        },
        source=node.source,
    )
    made.outputs[0] = node.outputs[0]  # the original node stays the producer of its own value
    return made


def _spread(node: Node, name: str, given: Tensor, shape: tuple[int, ...]) -> Value:
    """A constant with a number for each block."""
    array: npt.NDArray[np.generic] = given.numpy()
    wide = np.broadcast_to(array.reshape(shape) if array.size > 1 else array.reshape(()), shape)
    tensor = Tensor.from_numpy(np.ascontiguousarray(wide))
    return Value(f"{node.name}/{name}", TensorType(tensor.dtype, tensor.shape), tensor)
