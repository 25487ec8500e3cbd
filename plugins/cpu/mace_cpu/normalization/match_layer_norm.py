"""LayerNormalization as elementary nodes: ReduceMean, Sub, Pow, ReduceMean, Add, Sqrt, Div and maybe Mul, Add."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mace_core.graph import Node, Value
from mace_core.tensor import DType
from mace_cpu.normalization.lower import broadcasts, emit_row_norm, present, row_parameter
from mace_cpu.normalization.rows import RowNorm
from mace_cpu.shared.nodes import attribute_or_input, normal_axis
from mace_cpu.shared.program.program import Program
from mace_cpu.shared.registry import begins


@dataclass(slots=True)
class _Match:
    """The nodes after the first ReduceMean, the value they end at, and what they normalize with."""

    nodes: list[Node]
    result: Value
    row: tuple[int, ...]
    epsilon: float
    scale: Value | None = None
    shift: Value | None = None


@begins("ReduceMean")
def fuse_layer_norm(program: Program, mean: Node) -> bool:
    """Lower a whole LayerNormalization where ``mean``, a ReduceMean, begins one; False, having done nothing, if not."""
    found = _match(program, mean)
    if found is None:
        return False
    for node in found.nodes:
        program.fusion.fuse(node)
    x = mean.inputs[0]
    assert x is not None
    length = math.prod(found.row)
    parameters = present(scale=found.scale, shift=found.shift)
    emit_row_norm(
        program,
        RowNorm(program.facts.dtype(x).label, scale="scale" in parameters, shift="shift" in parameters),
        program.values.read(x),
        program.values.write(found.result),
        {name: row_parameter(program, value, found.row) for name, value in parameters.items()},
        rows=program.facts.size(x) // length,
        parts=1,
        inner=length,
        period=1,
        epsilon=found.epsilon,
    )
    return True


def _match(program: Program, mean: Node) -> _Match | None:
    x = mean.inputs[0]
    row = _reduced_row(program, mean)
    if x is None or not row or program.facts.dtype(x) is not DType.FLOAT32 or math.prod(program.facts.shape(x)) == 0:
        return None
    centered = _only_user(program, mean, "Sub")
    if centered is None or centered.inputs != [x, mean.outputs[0]]:
        return None
    difference = centered.outputs[0]
    if difference is None or program.facts.view.is_output(difference):
        return None
    users = program.facts.view.users(difference)
    square = next((u for u in users if u.op_type in ("Pow", "Mul")), None)
    quotient = next((u for u in users if u.op_type == "Div"), None)
    if square is None or quotient is None or set(users) != {square, quotient}:
        return None
    if not program.fusion.is_free(square) or square.domain or quotient.domain:
        return None
    if not _is_square(program, square, difference):
        return None
    variance = _only_user(program, square, "ReduceMean")
    if variance is None or _reduced_row(program, variance) != row:
        return None
    sum_ = _only_user(program, variance, "Add")
    root = None if sum_ is None else _only_user(program, sum_, "Sqrt")
    if sum_ is None or root is None or _only_user(program, root, "Div") is not quotient:
        return None
    epsilon = _number(program, next((v for v in sum_.inputs if v is not variance.outputs[0]), None))
    result = quotient.outputs[0]
    if epsilon is None or result is None or quotient.inputs != [difference, root.outputs[0]]:
        return None
    found = _Match([centered, square, variance, sum_, root, quotient], result, row, epsilon)
    found.scale = _take(program, found, "Mul")
    found.shift = _take(program, found, "Add")
    return found


def _only_user(program: Program, node: Node, op_type: str) -> Node | None:
    """The one node that reads the result of ``node``, if it is of this type."""
    result = node.outputs[0]
    user = None if result is None else program.fusion.sole_user(result)
    return user if user is not None and user.op_type == op_type and not user.domain else None


def _reduced_row(program: Program, node: Node) -> tuple[int, ...] | None:
    """The trailing dimensions a ReduceMean reduces, keeping them as ones; None if it does anything else."""
    x = node.inputs[0]
    axes = attribute_or_input(program.facts.view, node, "axes", 1)
    if x is None or not axes or not node.attr("keepdims", 1):
        return None
    shape = program.facts.shape(x)
    normal = sorted({normal_axis(axis, len(shape)) for axis in axes})
    return shape[normal[0] :] if normal == list(range(normal[0], len(shape))) else None


def _is_square(program: Program, node: Node, x: Value) -> bool:
    if node.op_type == "Mul":
        return node.inputs == [x, x]
    return node.inputs[0] is x and _number(program, node.inputs[1]) == 2.0


def _number(program: Program, value: Value | None) -> float | None:
    """The content of a constant of one element."""
    constant = program.facts.constant_of(value)
    return None if constant is None or constant.size != 1 else float(constant.reshape(()))


def _take(program: Program, found: _Match, op_type: str) -> Value | None:
    """The other operand of the node that follows, if it is of this type and has one number per element of a row."""
    node = _only_user(program, found.nodes[-1], op_type)
    result = None if node is None else node.outputs[0]
    if node is None or result is None or not program.facts.have_one_shape(result, found.result):
        return None
    other = next((v for v in node.inputs if v is not None and v is not found.result), None)
    if other is None or not program.values.is_ready(other) or program.facts.dtype(other) is not DType.FLOAT32:
        return None
    shape = program.facts.shape(other)
    is_whole = math.prod(shape) == math.prod(found.row)
    if not broadcasts(shape, found.row) or not (is_whole or program.facts.constant_of(other) is not None):
        return None
    found.nodes.append(node)
    found.result = result
    return other
