"""Graphs of an operator and of what reads its result, in every way in which that can be read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from mace_core.graph import Graph, Node, Value
from mace_core.provider import Backend
from mace_core.tensor import DType, Tensor, TensorType
from mace_core.testing.cases import Case, to_attribute
from mace_core.testing.declaration import Declaration
from mace_core.testing.expected import Array, expected, reference
from mace_core.testing.forms import operator_forms
from mace_core.testing.kit.trial import Trial
from mace_core.testing.runner import view_of

FUSING = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "Add", "Mul", "BatchNormalization", "QLinearConv"})
"""Operators that are often fused with what follows: all neighbors are tried, with others only some."""

READERS: tuple[str, ...] = (
    *("Relu", "Clip", "Sigmoid", "LeakyRelu", "Tanh", "HardSwish", "HardSigmoid", "Elu", "Neg", "Abs", "Exp", "Sqrt"),
    *("Identity", "Softsign", "Erf"),
)
"""Operators of one operand that can read anything; those that the provider claims are used."""

FEW = 2
QUICK_PATTERNS = 24
"""So many graphs of each operator of `FUSING` belong to the quick tier: all ways to be read, by two readers."""

MOST = 8
SMALLEST_SIZE = 4


class Step(NamedTuple):
    """One more node: 0 is the result of the operator, i that of the i-th step, "constant" one number per channel."""

    op_type: str
    operands: tuple[int | str, ...]


class Pattern(NamedTuple):
    """Nodes that follow, and which results are outputs."""

    name: str
    steps: tuple[Step, ...]
    outputs: tuple[int, ...]


def patterns(readers: Sequence[str], has: Mapping[str, bool]) -> Iterator[Pattern]:
    """All ways in which readers may follow."""
    for op in readers:
        read = Step(op, (0,))
        yield Pattern(f"read by {op}", (read,), (1,))
        yield Pattern(f"read by {op} and outside", (read,), (1, 0))
        yield Pattern(f"read outside and by {op}", (read,), (0, 1))
        yield Pattern(f"read by {op} twice", (read, read), (1, 2))
        for binary in ("Add", "Mul"):
            if has[binary]:
                yield Pattern(f"read by {op} and by {binary} after it", (read, Step(binary, (1, 0))), (2,))
                yield Pattern(f"read by {binary} with itself, then {op}", (Step(binary, (0, 0)), Step(op, (1,))), (2,))
                constant = Step(binary, (0, "constant"))
                yield Pattern(f"read by {binary} with a constant, then {op}", (constant, Step(op, (1,))), (2,))
                swapped = Step(binary, ("constant", 0))
                yield Pattern(
                    f"read by {binary} after a constant, then {op}, and outside", (swapped, Step(op, (1,))), (2, 0)
                )
    for op, other in pairwise((*readers, readers[0])) if len(readers) > 1 else ():
        first, second = Step(op, (0,)), Step(other, (0,))
        yield Pattern(f"read by {op} and by {other}", (first, second), (2, 1))
        yield Pattern(f"read by {op}, then {other}", (first, Step(other, (1,))), (2,))
        yield Pattern(f"read by {op}, also outside, then {other}", (first, Step(other, (1,))), (1, 2))
        if has["Add"]:
            steps = (first, second, Step("Add", (1, 2)))
            yield Pattern(f"read by {op} and {other}, whose results are added", steps, (3,))
    for binary in ("Add", "Sub", "Mul", "Max", "Concat"):
        if has[binary]:
            yield Pattern(f"read by {binary} twice", (Step(binary, (0, 0)),), (1,))


def neighbors_of(backend: Backend, op_type: str, declaration: Declaration) -> list[Trial]:
    """The operator in a form that the backend claims, with whatever it claims to follow; [] where it claims none."""
    case = _representative(backend, op_type)
    if case is None:
        return []
    right = expected(case)
    readers = [
        op for op in READERS if op != op_type and _claims(backend, _applied(case, [Step(op, (0,))], (1,), right))
    ]
    has = {
        op: _claims(backend, _applied(case, [Step(op, (0, 0))], (1,), right))
        for op in ("Add", "Sub", "Mul", "Max", "Concat")
    }
    if op_type in READERS and op_type in ("Relu", "Clip", "Sigmoid"):
        readers.insert(1, op_type)
    chosen = readers[: MOST if op_type in FUSING else FEW]
    return [
        Trial(
            f"{case.name}, {pattern.name}",
            op_type,
            _applied(case, pattern.steps, pattern.outputs, right),
            case.feeds(),
            partial(_expected, pattern, right),
            {"result": pattern.name},
            is_combined=op_type not in FUSING or place >= QUICK_PATTERNS,
        )
        for place, pattern in enumerate(patterns(chosen, has))
    ]


def _representative(backend: Backend, op_type: str) -> Case | None:
    """The first form that is claimed, with one float32 result that is more than a number or two."""
    for case in operator_forms()[op_type]:
        if case.dtype not in ("float32", "int8", "uint8") or case.first_input.size < SMALLEST_SIZE or not case.feeds():
            continue
        graph = case.graph()
        view = view_of(graph, case.feeds())
        kinds = [view.tensor_type(value) for value in graph.outputs]
        if kinds[0] is None or kinds[0].dtype is not DType.FLOAT32 or len(kinds) > 1:
            continue
        if len(backend.capability(view).claims):
            return case
    return None


def _claims(backend: Backend, graph: Graph) -> bool:
    feeds = {value.name: _zeros(value) for value in graph.inputs}
    view = view_of(graph, feeds)
    return {node for claim in backend.capability(view).claims for node in claim.nodes} == set(view.nodes)


def _zeros(value: Value) -> Array:
    assert isinstance(value.type, TensorType)
    return np.zeros(value.type.concrete_shape, value.type.dtype.numpy)


def _applied(case: Case, steps: Sequence[Step], outputs: Sequence[int], right: Mapping[str, Array]) -> Graph:
    """The case's graph with more nodes behind it."""
    graph = case.graph()
    (result,) = graph.outputs
    _append(graph, result, next(iter(right.values())).shape, steps, outputs)
    return graph


def _append(graph: Graph, result: Value, shape: tuple[int, ...], steps: Sequence[Step], outputs: Sequence[int]) -> None:
    values = [result]
    for number, step in enumerate(steps, 1):
        operands: list[Value | None] = []
        for operand in step.operands:
            operands.append(
                _constant(graph, f"c{number}", _per_channel(shape)) if isinstance(operand, str) else values[operand]
            )
        attributes: dict[str, Any] = {}
        if step.op_type == "Clip":
            attributes = _bounds(graph, number, operands)
        elif step.op_type == "Concat":
            attributes = {"axis": 0}
        values.append(Value(f"v{number}"))
        graph.nodes.append(
            Node(
                step.op_type,
                operands,
                [values[-1]],
                name=f"{step.op_type.lower()} {number}",
                attributes={name: to_attribute(value) for name, value in attributes.items()},
            )
        )
    graph.outputs = [values[index] for index in outputs]


def _bounds(graph: Graph, number: int, operands: list[Value | None]) -> dict[str, Any]:
    """The bounds of a Clip: inputs since opset 11, attributes before."""
    if graph.opset_imports[""] < 11:
        return {"min": -0.25, "max": 0.5}
    for name, bound in (("low", -0.25), ("high", 0.5)):
        operands.append(_constant(graph, f"{name}{number}", np.array(bound, np.float32)))
    return {}


def _constant(graph: Graph, name: str, array: Array) -> Value:
    value = Value(name, None, Tensor.from_numpy(array))
    graph.initializers[name] = value
    return value


def _per_channel(shape: tuple[int, ...]) -> Array:
    """One number for each element of axis 1, or of the only one."""
    if not shape:
        return np.array(1.25, np.float32)
    axis = 1 if len(shape) > 1 else 0
    numbers = np.linspace(-0.5, 1.5, shape[axis], dtype=np.float32)
    return numbers.reshape([-1 if place == axis else 1 for place in range(len(shape))])


def _expected(pattern: Pattern, right: Mapping[str, Array]) -> dict[str, Array]:
    """The operator's own result by definition, and onnx.reference for what follows."""
    result = next(iter(right.values()))
    graph = Graph(pattern.name)
    graph.opset_imports = {"": 21}
    source = Value("y0", TensorType(DType.FLOAT32, result.shape))
    graph.inputs = [source]
    computed = [index for index in pattern.outputs if index]
    _append(graph, source, result.shape, pattern.steps, computed)
    found = reference(graph, {"y0": result})
    return {"y0": result, **found} if 0 in pattern.outputs else found
