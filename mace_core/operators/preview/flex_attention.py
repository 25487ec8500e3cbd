"""FlexAttention with graphs of its own for scores and weights: these become part of what stands for the node."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mace_core.graph import Graph, Node, Value
from mace_core.graph.graph import captured_values
from mace_core.operators import pieces
from mace_core.operators.bodies import BodyBuilder
from mace_core.operators.context import NodeContext, ShapeMismatchError
from mace_core.operators.preview import DOMAIN
from mace_core.operators.registry import body, shape_function
from mace_core.tensor import DType, TensorType, ValueType

# --- shapes -----------------------------------------------------------------------------------------------------------


@shape_function("FlexAttention", domain=DOMAIN)
def flex_attention(ctx: NodeContext) -> Sequence[ValueType]:
    """Q (batch, heads, rows, size), V (batch, heads, columns, values) -> (batch, heads, rows, values)."""
    query, value = ctx.shape(0), ctx.shape(2)
    if len(query) != 4 or len(value) != 4:
        raise ShapeMismatchError("Q, K and V must have 4 axes")
    return [TensorType(ctx.dtype(0), (*query[:3], value[3]))]


# --- bodies -----------------------------------------------------------------------------------------------------------


@body("FlexAttention", domain=DOMAIN)
def build_flex_attention(b: BodyBuilder, node: Node) -> bool:
    """Products, Softmax, and between them the nodes of ``score_mod`` and ``prob_mod``.

    False for one without such graphs: the standard has a body for that.  Also False where control flow is nested in
    them.
    """
    graphs = list(node.subgraphs())
    if not graphs or any(True for graph in graphs for inner in graph.nodes for _ in inner.subgraphs()):
        return False
    query, key, value, result = (*(node.input(index) for index in range(3)), node.output(0))
    if query is None or key is None or value is None or result is None:
        return False
    view = b.view
    b.graph.inputs = list(dict.fromkeys([*b.graph.inputs, *(v for v in captured_values(node) if v.constant is None)]))
    batch, heads, rows, size = view.shape(query)
    groups, columns, width = view.shape(key)[1], view.shape(key)[2], view.shape(value)[3]
    shared = heads // groups * rows
    given = view.tensor_type(query)
    own = DType.FLOAT32 if given is None else given.dtype
    usual = own if own is DType.FLOAT64 else DType.FLOAT32
    precision = DType(int(node.attr("softmax_precision", usual.value)))
    scale = float(node.attr("scale", 1.0 / math.sqrt(size)))

    def shaped(part: Value, shape: tuple[int, ...], *, into: Value | None = None) -> Value:
        return pieces.shaped(b, part, shape, into=into)

    def cast(part: Value, dtype: DType) -> Value:
        return part if own is precision else b.op("Cast", [part], {"to": dtype.value})

    # the queries of the heads that share keys stand below each other in one product
    stacked = shaped(query, (batch, groups, shared, size))
    product = b.op("MatMul", [stacked, b.op("Transpose", [key], {"perm": [0, 1, 3, 2]})])
    scores = b.op("Mul", [cast(product, precision), b.constant(scale, precision.numpy)])
    scores = _through(b, node.attr("score_mod"), shaped(scores, (batch, heads, rows, columns)))
    weights = _through(b, node.attr("prob_mod"), b.op("Softmax", [scores], {"axis": -1}))
    mixed = b.op("MatMul", [shaped(weights, (batch, groups, shared, columns)), cast(value, precision)])
    shaped(cast(mixed, own), (batch, heads, rows, width), into=result)
    return True


def _through(b: BodyBuilder, graph: Graph | None, value: Value) -> Value:
    """``value`` after the nodes of ``graph``, copied with names that are unique around the node."""
    if graph is None:
        return value
    own: dict[Value, Value] = {graph.inputs[0]: value}
    for name, constant in graph.initializers.items():
        renamed = Value(f"{b.node.name}/{len(b.graph.initializers)}/{name}", constant=constant.constant)
        b.graph.initializers[renamed.name] = own[constant] = renamed
    for inner in graph.nodes:
        number = len(b.graph.nodes)
        for made in inner.outputs:
            if made is not None:
                own[made] = Value(f"{b.node.name}/{number}/{made.name}")
        copy = Node(
            inner.op_type,
            [None if read is None else own.get(read, read) for read in inner.inputs],
            [None if made is None else own[made] for made in inner.outputs],
            name=f"{b.node.name}/{inner.op_type}_{number}",
            domain=inner.domain,
            attributes=inner.attributes,
            source=b.node.source,
        )
        b.graph.nodes.append(copy)
    return own.get(graph.outputs[0], graph.outputs[0])
