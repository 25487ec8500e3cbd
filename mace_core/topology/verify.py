"""Whether two graphs compute the same, on random inputs, run on the host."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from mace_core.graph import Graph, Node, Value
from mace_core.tensor import DType, Tensor, TensorType, ValueType
from mace_core.topology.rule import Compute

TOLERANCE = 1e-5
"""Largest difference of two results in float32, as a part of the largest magnitude of the result: roundings of sums in
another order."""

HALF_TOLERANCE = 1e-2
"""Of results in 16 bits or fewer."""

_SEEDS = (0, 1)


def difference(
    before: Sequence[Node],
    after: Sequence[Node],
    inputs: Sequence[Value],
    outputs: Sequence[Value],
    types: Mapping[Value, ValueType],
    opsets: Mapping[str, int],
    compute: Compute,
    known: Mapping[Value, Tensor] | None = None,
) -> float:
    """The largest difference of what two lists of nodes compute, as a part of what is allowed: at most 1 is equal.

    Args:
        before, after: nodes over the same inputs and outputs.
        inputs: what they read; random numbers take the place of those without content.
        outputs: what they make.
        types: of the inputs.
        opsets: versions of the operators.
        compute: runs a graph without inputs.
        known: contents of inputs that are decided.

    Raises:
        MaceError: if one of them cannot be run.
        ValueError: if an input has no type for which numbers could be drawn.
    """
    worst = 0.0
    for seed in _SEEDS:
        generator = np.random.default_rng(seed)
        contents = {value: _content(value, types, known or {}, generator, is_positive=seed == 1) for value in inputs}
        results = [_run(nodes, contents, outputs, opsets, compute) for nodes in (before, after)]
        for one, other in zip(*results, strict=True):
            worst = max(worst, _distance(one, other))
    return worst


def _content(
    value: Value,
    types: Mapping[Value, ValueType],
    known: Mapping[Value, Tensor],
    generator: np.random.Generator,
    *,
    is_positive: bool,
) -> Tensor:
    if value.constant is not None:
        return value.constant
    if value in known:
        return known[value]
    type = types.get(value, value.type)
    if not isinstance(type, TensorType) or not type.is_concrete or type.dtype is DType.STRING:
        raise ValueError(f"'{value.name}' has no type for which numbers could be drawn")
    return Tensor.from_numpy(random_numbers(type, generator, is_positive=is_positive))


def random_numbers(type: TensorType, generator: np.random.Generator, *, is_positive: bool) -> npt.NDArray[np.generic]:
    """Numbers of a type: normally distributed, or between 0.1 and 2; whole ones of zero and one; coin flips."""
    shape, dtype = type.concrete_shape, type.dtype
    if dtype is DType.BOOL:
        return generator.integers(0, 2, shape).astype(bool)
    if dtype.is_integer:
        return generator.integers(0, 1 << min(dtype.bits, 7) if dtype.bits <= 8 else 2, shape).astype(dtype.numpy)
    numbers = generator.uniform(0.1, 2, shape) if is_positive else generator.standard_normal(shape)
    return numbers.astype(dtype.numpy)


def _run(
    nodes: Sequence[Node],
    contents: Mapping[Value, Tensor],
    outputs: Sequence[Value],
    opsets: Mapping[str, int],
    compute: Compute,
) -> list[Tensor]:
    """The outputs of nodes that are copied, so that theirs stay as they are."""
    if any(True for node in nodes for _ in node.subgraphs()):
        raise ValueError("graphs with others nested in them are compared node by node alone")
    copies: dict[Value, Value] = {value: Value(value.name, constant=tensor) for value, tensor in contents.items()}

    def copy(value: Value | None) -> Value | None:
        if value is None:
            return None
        if value not in copies:
            copies[value] = Value(value.name, constant=value.constant)
        return copies[value]

    graph = Graph("two forms of a node")
    graph.opset_imports = dict(opsets)
    for node in nodes:
        graph.nodes.append(
            Node(
                node.op_type,
                [copy(value) for value in node.inputs],
                [copy(value) for value in node.outputs],
                name=node.name,
                domain=node.domain,
                attributes=dict(node.attributes),
            )
        )
    for value in outputs:
        copied = copy(value)
        assert copied is not None
        graph.outputs.append(copied)
    return list(compute(graph))


def _distance(one: Tensor, other: Tensor) -> float:
    """Of two results, as a part of what is allowed."""
    if one.dtype is not other.dtype or one.shape != other.shape:
        return float("inf")
    x, y = one.numpy(), other.numpy()
    if not one.dtype.is_float:
        return 0.0 if np.array_equal(x, y) else float("inf")
    a, b = x.astype(np.float64).reshape(-1), y.astype(np.float64).reshape(-1)
    is_usual = np.isfinite(a) & np.isfinite(b)
    odd = ~is_usual & (a != b) & ~(np.isnan(a) & np.isnan(b))
    if odd.any():
        return float("inf")
    a, b = a[is_usual], b[is_usual]
    if not a.size:
        return 0.0
    allowed = TOLERANCE if one.dtype in (DType.FLOAT32, DType.FLOAT64) else HALF_TOLERANCE
    return float(np.abs(a - b).max() / (np.abs(a).max() or 1.0) / allowed)
