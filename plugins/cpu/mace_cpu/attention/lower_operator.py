"""The Attention operator, in the forms that need no cache of keys: the others are declined and expanded."""

from __future__ import annotations

import math

import numpy as np

from mace_core.graph import GraphView, Node, Value
from mace_core.native.numba_kernel import numba_source
from mace_core.symbolic import is_symbolic
from mace_core.tensor import DType
from mace_cpu.attention.lower import Matrices, Operands, emit_attention
from mace_cpu.matmul.views import lie_of
from mace_cpu.shared.checks import all_concrete, dtype_in
from mace_cpu.shared.nodes import need
from mace_cpu.shared.parts.buffers import Buf
from mace_cpu.shared.parts.views import Strided
from mace_cpu.shared.program.program import Program
from mace_cpu.shared.registry import lowers

ATTRIBUTES = frozenset(
    {
        *("scale", "is_causal", "q_num_heads", "kv_num_heads", "softcap"),
        *("softmax_precision", "qk_matmul_output_mode"),
    }
)
"""Later versions of the operator know more, such as windows."""

MOST_CAUSAL_SCORES = 1 << 22
"""More scores than this are not worth a constant that says which of them count."""


def _check(view: GraphView, node: Node) -> str | None:
    reason = all_concrete(view, node)
    if reason is None and _is_of_nothing(view, node):
        return None
    for index in range(4):
        reason = reason or dtype_in(view, node.input(index), frozenset({DType.FLOAT32}))
    if reason is not None:
        return reason
    if any(node.input(index) is not None for index in range(4, len(node.inputs))):
        return "keys and values of earlier runs are not supported"
    if any(output is not None for output in node.outputs[1:]):
        return "outputs beside the first are not supported"
    unknown = sorted(set(node.attributes) - ATTRIBUTES)
    if unknown:
        return f"the attribute {unknown[0]} is not supported"
    if node.attr("softmax_precision", 1) != 1:
        return "a softmax of another type than float32 is not supported"
    if node.attr("softcap", 0.0):
        return "softcap is not supported"
    if math.prod(view.shape(need(node.input(0)))) == 0:
        return "an attention of queries without elements"
    queries, heads, _ = _sizes(view, need(node.input(0)), node, "q_num_heads")
    keys, groups, _ = _sizes(view, need(node.input(1)), node, "kv_num_heads")
    if heads % groups:
        return f"{heads} heads of queries do not share {groups} of keys evenly"
    causal, mask = bool(node.attr("is_causal", 0)), node.input(3)
    if causal and (mask is not None or queries * keys > MOST_CAUSAL_SCORES):
        return "is_causal with a mask of its own, or for so many keys, is not supported"
    if mask is not None:
        shape = view.shape(mask)
        if len(shape) not in (2, 3, 4) or shape[-1] != keys:
            return "a mask that does not have a number for every key"
    return None


def _is_of_nothing(view: GraphView, node: Node) -> bool:
    """Whether there is nothing to compute: no result, or no key, so that every result is a sum of nothing."""
    first, *others = [view.shape(value) if value is not None else (0,) for value in node.outputs]
    keys = view.shape(need(node.input(1)))[-2]
    past = node.input(4)
    if past is not None:
        keys += view.shape(past)[-2]
    return (keys == 0 or math.prod(first) == 0) and all(math.prod(shape) == 0 for shape in others)


def _sizes(view: GraphView, value: Value, node: Node, attribute: str) -> tuple[int, int, int]:
    """(positions, heads, elements per head) of an input (B, H, T, D), or (B, T, H D)."""
    shape = view.shape(value)
    if len(shape) == 4:
        return shape[2], shape[1], shape[3]
    heads = int(node.attr(attribute))
    return shape[1], heads, shape[2] // heads


@lowers("Attention", check=_check)
def lower_attention(program: Program, node: Node) -> None:
    if _is_of_nothing(program.facts.view, node):
        for output in node.outputs:
            if output is not None:
                zeros = np.zeros(program.facts.shape(output), program.facts.dtype(output).numpy)
                program.values.alias(output, program.constants.put(zeros))
        return
    target = need(node.output(0))
    queries, heads, depth = _sizes(program.facts.view, need(node.input(0)), node, "q_num_heads")
    keys, groups, _ = _sizes(program.facts.view, need(node.input(1)), node, "kv_num_heads")
    shared = heads // groups
    query = _heads(program, node, 0, "q_num_heads", (groups, shared))
    key = _heads(program, node, 1, "kv_num_heads", (groups, 1))
    value = _heads(program, node, 2, "kv_num_heads", (groups, 1))
    mask = None
    if node.input(3) is not None:
        mask = _mask(program, need(node.input(3)), groups, shared)
    elif node.attr("is_causal", 0):
        mask = Strided(_causal_mask(program, queries, keys), 0, (queries, keys), (keys, 1))
    scale = float(node.attr("scale", 1.0 / math.sqrt(depth)))
    operands = Operands(
        _matrices(query), _matrices(key.permuted((0, 1, 2, 4, 3))), _matrices(value), mask, scale, empty=True
    )
    batch, columns = query.shape[0], value.shape[-1]
    if len(program.facts.shape(target)) == 4:
        emit_attention(program, operands, target, (0, 1, 2, 3, 4), (batch, groups, shared, queries, columns))
    else:
        emit_attention(program, operands, target, (0, 3, 1, 2, 4), (batch, queries, groups, shared, columns))


def _causal_mask(program: Program, queries: int, keys: int) -> Buf:
    if is_symbolic(queries) or is_symbolic(keys):
        target = Buf.scratch(4 * queries * keys)
        kernel = numba_source("mace_cpu.attention.kernels", "causal_mask")
        program.steps.emit(kernel, {"target": target, "keys": keys}, extent=queries, work=queries * keys)
        return target
    seen = np.where(np.arange(keys)[None, :] <= np.arange(queries)[:, None], 0.0, -np.inf).astype(np.float32)
    return program.constants.put(seen)


def _heads(program: Program, node: Node, index: int, attribute: str, split: tuple[int, int]) -> Strided:
    """An input as (B, groups, heads of a group, T, D)."""
    value = need(node.input(index))
    positions, _, depth = _sizes(program.facts.view, value, node, attribute)
    shape = program.facts.shape(value)
    if len(shape) == 4:
        wanted, order = (shape[0], *split, positions, depth), (0, 1, 2, 3, 4)
    else:
        wanted, order = (shape[0], positions, *split, depth), (0, 2, 3, 1, 4)
    strided = program.values.strided(value).reshaped(wanted)
    if strided is None or strided.strides[-1] != 1:
        program.values.read(value)
        strided = program.values.strided(value).reshaped(wanted)
    assert strided is not None
    return strided.permuted(order)


def _matrices(strided: Strided) -> Matrices:
    lie = lie_of(strided)
    assert lie is not None
    return Matrices(strided.buf, lie, strided.shape)


def _mask(program: Program, value: Value, groups: int, shared: int) -> Strided:
    """A mask (..., T, S) as (B, groups, heads of a group, T, S), ones where it is broadcast."""
    program.values.read(value)
    own = program.facts.shape(value)
    batch, heads, rows, keys = (1,) * (4 - len(own)) + own
    split = (groups, shared) if heads != 1 else (1, 1)
    found = program.values.strided(value).reshaped((batch, *split, rows, keys))
    assert found is not None
    return found
