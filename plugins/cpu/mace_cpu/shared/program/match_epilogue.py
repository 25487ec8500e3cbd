"""Which of the nodes behind a value can be done before it is stored."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from mace_core.graph import Node, Value
from mace_core.tensor import DType
from mace_cpu.shared.epilogue.epilogue import Epilogue
from mace_cpu.shared.epilogue.operations import EpilogueOp, FloatArray
from mace_cpu.shared.program.operations import activation_of, number_operation, per_channel
from mace_cpu.shared.program.program import Program

MOST_OPS = 12
MOST_TENSORS = 2
MOST_GATE_NODES = 4

Found = tuple[tuple[EpilogueOp, ...], Sequence[Node], Value]
"""Operations, the nodes that they are, and what these compute."""


def match_epilogue(
    program: Program,
    value: Value,
    *,
    channel_axis: int = 1,
    tensors: int = MOST_TENSORS,
    takes: Callable[[Value], bool] | None = None,
    wide: bool = False,
) -> tuple[Epilogue, Value]:
    """Follow what is done to ``value`` alone, as far as it can be done before ``value`` is stored.

    The nodes taken are marked as fused.

    Args:
        program: the program being lowered; ``value`` is about to be computed by its current node.
        value: a float32 tensor.
        channel_axis: which axis per-channel operands vary along.
        tensors: how many operands of the full shape are welcome.
        takes: whether a certain one is; None: each of them.
        wide: whether functions are welcome, too, that take long, with any numbers as parts of the code.

    Returns:
        The operations and the value to store instead of ``value`` (``value`` itself where nothing was found).
    """
    ops: list[EpilogueOp] = []
    channels: list[FloatArray] = []
    residuals: list[Value] = []
    while len(ops) < MOST_OPS:
        diamond = match_diamond(program, value, wide=wide)
        if diamond is not None:
            found, nodes, value = diamond
            ops.extend(found)
            for node in nodes:
                program.fusion.fuse(node)
            continue
        user = program.fusion.sole_user(value)
        if user is None:
            break
        step = match_node(program, user, value, channel_axis)
        if step is None or len(residuals) + len(step.tensors) > tensors:
            break
        if takes is not None and not all(map(takes, step.tensors)):
            break
        program.fusion.fuse(user)
        ops.extend(step.ops)
        channels.extend(step.channels)
        residuals.extend(step.tensors)
        result = user.outputs[0]
        assert result is not None
        value = result
    return Epilogue(tuple(ops), tuple(channels), tuple(residuals)), value


def match_node(program: Program, node: Node, value: Value, channel_axis: int) -> Epilogue | None:
    """The operations of one node on ``value``, None if they cannot be part of an epilogue; the node is not marked."""
    result = node.output(0)
    if node.domain != "" or result is None or program.facts.dtype(result) is not DType.FLOAT32:
        return None
    if node.op_type in ("Add", "Sub", "Mul", "Div"):
        is_as_large = program.facts.have_one_shape(result, value)
        return _match_binary(program, node, value, channel_axis) if is_as_large else None
    activation = activation_of(program, node)
    if activation is not None and node.inputs[0] is value:
        return Epilogue(activation)
    if node.op_type == "PRelu" and node.inputs[0] is value:
        slope = per_channel(program, node.inputs[1], value, channel_axis)
        return None if slope is None else Epilogue((EpilogueOp("prelu", "channel"),), (slope,))
    if node.op_type == "BatchNormalization" and channel_axis == 1:
        return _match_batch_normalization(program, node, value)
    return None


def _match_binary(program: Program, node: Node, value: Value, channel_axis: int) -> Epilogue | None:
    left, right = node.inputs
    reverse = right is value
    other = left if reverse else right
    if other is None or other is value:
        return None
    kind = {"Add": "add", "Mul": "mul", "Sub": "rsub" if reverse else "sub", "Div": "div"}[node.op_type]
    if node.op_type == "Div" and reverse:
        return None
    number = number_operation(program, node, value)
    if number is not None:
        return Epilogue((number,))
    constant = per_channel(program, other, value, channel_axis)
    if constant is not None:
        return Epilogue((EpilogueOp(kind, "channel"),), (constant,))
    if program.values.is_ready(other) and program.facts.have_one_shape(other, value):
        if program.facts.constant_of(other) is not None:
            return None
        return Epilogue((EpilogueOp(kind, "tensor"),), (), (other,))
    return None


def _match_batch_normalization(program: Program, node: Node, value: Value) -> Epilogue | None:
    if node.inputs[0] is not value or node.attr("training_mode", 0) or any(o is not None for o in node.outputs[1:]):
        return None
    params = [program.facts.constant_of(v) for v in node.inputs[1:5]]
    scale, bias, mean, variance = [None] * 4 if any(p is None for p in params) else params
    if scale is None or bias is None or mean is None or variance is None:
        return None
    if any(p.shape != (program.facts.shape(value)[1],) for p in (scale, bias, mean, variance)):
        return None
    factor = scale.astype(np.float64) / np.sqrt(variance.astype(np.float64) + node.attr("epsilon", 1e-5))
    shift = bias.astype(np.float64) - mean.astype(np.float64) * factor
    ops = (EpilogueOp("mul", "channel"), EpilogueOp("add", "channel"))
    return Epilogue(ops, (factor.astype(np.float32), shift.astype(np.float32)))


def match_diamond(program: Program, value: Value, *, wide: bool) -> Found | None:
    """Two chains that begin with ``value``, which they alone read, and are joined again; no node is marked."""
    return _match_diamond(program, value, wide) or (_match_fork(program, value) if wide else None)


def _match_diamond(
    program: Program, value: Value, wide: bool
) -> tuple[tuple[EpilogueOp, ...], Sequence[Node], Value] | None:
    """``x * f(x)`` and ``x + f(x)``, where f is a short chain of activations and ``x`` has no other use.

    Exporters write SiLU so, and hard swish as ``x * Clip(x + 3, 0, 6) / 6``.
    """
    users = program.facts.view.users(value)
    if len(users) != 2 or users[0] is users[1] or program.facts.view.is_output(value):
        return None
    for gate, last in (users, users[::-1]):
        if (
            last.op_type not in ("Mul", "Add")
            or last.domain
            or last.outputs[0] is None
            or not program.fusion.is_free(last)
        ):
            continue
        chain = _match_gate(program, gate, last, value, wide)
        if chain is None:
            continue
        ops, nodes = chain
        if len(ops) == 1 and last.op_type == "Mul" and ops[0].kind in _GATED:
            return (EpilogueOp(_GATED[ops[0].kind], "", ops[0].parameters),), [*nodes, last], last.outputs[0]
        joined = EpilogueOp("mul" if last.op_type == "Mul" else "add", "saved")
        return (EpilogueOp("save"), *ops, joined), [*nodes, last], last.outputs[0]
    return None


_GATED = {"sigmoid": "silu", "hard_sigmoid": "gated_hard_sigmoid"}


def _match_gate(
    program: Program, node: Node, last: Node, value: Value, wide: bool
) -> tuple[tuple[EpilogueOp, ...], list[Node]] | None:
    """The operations from ``value`` through ``node`` to the other operand of ``last``, each read by the next alone."""
    ops: tuple[EpilogueOp, ...] = ()
    nodes: list[Node] = []
    current = value
    while len(nodes) < MOST_GATE_NODES:
        result = node.output(0)
        if result is None or node is last or not program.fusion.is_free(node):
            return None
        if not program.facts.have_one_shape(result, value) or program.facts.dtype(result) is not DType.FLOAT32:
            return None
        found = _function(program, node, current, wide)
        if found is None:
            return None
        ops += found
        nodes.append(node)
        following = program.fusion.sole_user(result)
        if following is last:
            return (ops, nodes) if set(last.inputs) == {value, result} else None
        if following is None:
            return None
        node, current = following, result
    return None


def _function(program: Program, node: Node, value: Value, wide: bool) -> tuple[EpilogueOp, ...] | None:
    """What ``node`` does to ``value``, which is a function of that alone; None where it is none that is known."""
    number = (
        number_operation(program, node, value, any_number=wide) if value in node.inputs and not node.domain else None
    )
    if number is not None:
        return (number,)
    if wide and node.op_type == "Erf" and not node.domain:
        return (EpilogueOp("erf"),)
    return activation_of(program, node) if node.inputs[0] is value else None


def _match_fork(program: Program, value: Value) -> Found | None:
    """``f(x) * g(x)`` and ``f(x) + g(x)`` of short chains, which alone read ``x``: ``x / 2 * (1 + erf(x / r))``."""
    users = program.facts.view.users(value)
    if len(users) != 2 or users[0] is users[1] or program.facts.view.is_output(value):
        return None
    left, right = (_match_side(program, user, value) for user in users)
    if left is None or right is None:
        return None
    (first, one, last), (second, other, same) = left, right
    if last is not same or last.op_type not in ("Mul", "Add") or last.domain or last.outputs[0] is None:
        return None
    joined = EpilogueOp("mul" if last.op_type == "Mul" else "add", "saved")
    return (EpilogueOp("save"), *first, EpilogueOp("swap"), *second, joined), [*one, *other, last], last.outputs[0]


def _match_side(program: Program, node: Node, value: Value) -> tuple[tuple[EpilogueOp, ...], list[Node], Node] | None:
    """Functions of ``value`` from ``node`` on, each read by the next alone, and the node behind that is none."""
    ops: tuple[EpilogueOp, ...] = ()
    nodes: list[Node] = []
    current = value
    for _ in range(MOST_GATE_NODES + 1):
        found = _function(program, node, current, True) if program.fusion.is_free(node) else None
        if found is None:
            return (ops, nodes, node) if nodes and program.fusion.is_free(node) else None
        result = node.output(0)
        following = None if result is None else program.fusion.sole_user(result)
        if result is None or following is None or not program.facts.have_one_shape(result, value):
            return None
        ops, nodes = ops + found, [*nodes, node]
        node, current = following, result
    return None
