"""GatherBlockQuantized: entries of a table of few bits become floats as they are gathered."""

from __future__ import annotations

import math

import numpy as np

from mace_core.graph import GraphView, Node, Value
from mace_core.native.numba_kernel import numba_source
from mace_core.tensor import DType
from mace_cpu.quantized.low_bits.stored import LOW_BITS
from mace_cpu.shared.checks import all_concrete, dtype_in
from mace_cpu.shared.nodes import fixed, need, normal_axis
from mace_cpu.shared.parts.buffers import Buf
from mace_cpu.shared.program.program import Program
from mace_cpu.shared.registry import lowers

KERNELS = "mace_cpu.quantized.low_bits.kernels"
INDEX_TYPES = frozenset({DType.INT32, DType.INT64})
SCALES = frozenset({DType.FLOAT32, DType.FLOAT16, DType.BFLOAT16})
PACKED = frozenset({DType.INT4, DType.UINT4})


def _check(view: GraphView, node: Node) -> str | None:
    table = need(node.input(0))
    reason = all_concrete(view, node) or dtype_in(view, table, PACKED | {DType.UINT8})
    reason = reason or dtype_in(view, node.input(1), INDEX_TYPES) or dtype_in(view, node.input(2), SCALES)
    if reason is not None:
        return reason
    found = view.tensor_type(table)
    if found is not None and found.dtype in PACKED:
        reason = fixed(view, node, 0, "the table") or fixed(view, node, 3, "the zero points")
    if reason is None and _bits(view, node) not in (2, 4, 8):
        reason = f"tables have numbers of 2, 4 or 8 bits, not {node.attr('bits', 4)}"
    return reason


@lowers("GatherBlockQuantized", check=_check, domain="com.microsoft")
def lower_gather_blocks(program: Program, node: Node) -> None:
    _emit_gather(program, node, _bits(program.facts.view, node))


def _claims_nothing(view: GraphView, node: Node) -> str | None:
    return "only the provider itself makes such nodes"


@lowers("GatherBlockQuantized", check=_claims_nothing, domain=LOW_BITS)
def lower_stored_gather(program: Program, node: Node) -> None:
    """As com.microsoft's, of a table whose elements are the numbers, of any integer type up to 8 bits."""
    _emit_gather(program, node, program.facts.dtype(need(node.input(0))).bits)


def _emit_gather(program: Program, node: Node, bits: int) -> None:
    table, indices, scales = (need(node.input(index)) for index in (0, 1, 2))
    result = need(node.output(0))
    dtype = program.facts.dtype(table)
    shape = list(program.facts.shape(table))
    if dtype is DType.UINT8:
        shape[-1] *= 8 // bits
    axis = normal_axis(int(node.attr("gather_axis", 0)), len(shape))
    quantized = normal_axis(int(node.attr("quantize_axis", 1)), len(shape))
    block = int(node.attr("block_size", 128))
    blocks = -(-shape[quantized] // block)
    outer, inner, count = math.prod(shape[:axis]), math.prod(shape[axis + 1 :]), program.facts.size(indices)
    zero_row = blocks if dtype is not DType.UINT8 else -(-blocks * bits // 8) * (8 // bits)
    kernel = numba_source(
        KERNELS,
        "gather_blocks",
        bits=str(bits),
        table=dtype.label,
        index=program.facts.dtype(indices).label,
        scale=program.facts.dtype(scales).label,
    )
    zeros = node.input(3)
    program.steps.emit(
        kernel,
        {
            "source": _bytes(program, table),
            "indices": program.values.read(indices),
            "scales": program.values.read(scales),
            "zeros": 0 if zeros is None else _bytes(program, zeros),
            "target": program.values.write(result),
            "status": program.steps.report(
                f"'{indices.name}' holds the index {{value}}, which is outside its axis of {shape[axis]!s} elements"
            ),
            "size": shape[axis],
            "count": count,
            "inner": inner,
            "length": shape[quantized],
            "rest": math.prod(shape[quantized + 1 :]),
            "block": block,
            "blocks": blocks,
            "zero_row": zero_row,
        },
        extent=outer * count if program.facts.size(result) else 0,
        work=outer * count * inner * 4,
    )


def _bits(view: GraphView, node: Node) -> int:
    found = view.tensor_type(need(node.input(0)))
    assert found is not None
    return int(node.attr("bits", 4)) if found.dtype is DType.UINT8 else found.dtype.bits


def _bytes(program: Program, value: Value) -> Buf:
    """A table as it is stored: numbers of less than a byte stay packed."""
    known = program.facts.view.constant(value)
    if known is None or not known.dtype.is_packed:
        return program.values.read(value)
    return program.constants.put(np.asarray(known.payload))
