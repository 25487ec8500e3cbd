"""Products of matrices, and what can be written as one."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mace_core.graph import Graph, Node, Value
from mace_core.operators.bodies import given, kept, made
from mace_core.tensor import DType, Tensor
from mace_core.topology.rule import RuleBuilder, rule

_LARGEST_MATRIX = 1 << 22


@rule("MatMul of many axes as MatMul of three", "MatMul")
def three_axes(b: RuleBuilder, node: Node) -> bool:
    x, y = given(node, 0), given(node, 1)
    left, right, out = b.shape(x), b.shape(y), b.shape(made(node))
    if len(left) < 2 or len(right) < 2 or max(len(left), len(right)) < 4:
        return False
    if len(right) == 2:
        flat = b.op("MatMul", [b.reshaped(x, (math.prod(left[:-1]), left[-1])), y])
    elif left[:-2] == right[:-2]:
        batch = math.prod(left[:-2])
        flat = b.op("MatMul", [b.reshaped(x, (batch, *left[-2:])), b.reshaped(y, (batch, *right[-2:]))])
    elif math.prod(left[:-2]) == 1 or math.prod(right[:-2]) == 1:
        pieces = [b.reshaped(v, (math.prod(s[:-2]), *s[-2:])) for v, s in ((x, left), (y, right))]
        flat = b.op("MatMul", pieces)
    else:
        return False
    b.reshaped(flat, out, into=made(node))
    return True


@rule("MatMul with vectors as MatMul with matrices", "MatMul")
def with_vectors(b: RuleBuilder, node: Node) -> bool:
    x, y = given(node, 0), given(node, 1)
    left, right = b.shape(x), b.shape(y)
    if len(left) != 1 and len(right) != 1:
        return False
    inputs = [
        b.reshaped(x, (1, *left)) if len(left) == 1 else x,
        b.reshaped(y, (*right, 1)) if len(right) == 1 else y,
    ]
    b.reshaped(b.op("MatMul", inputs), b.shape(made(node)), into=made(node))
    return True


@rule("Gemm as MatMul and Add", "Gemm")
def gemm(b: RuleBuilder, node: Node) -> bool:
    x, y, c = given(node, 0), given(node, 1), node.input(2)
    if not b.dtype(x).is_float:
        return False
    alpha, beta = float(node.attr("alpha", 1.0)), float(node.attr("beta", 1.0))
    x = b.turned(x, (1, 0)) if int(node.attr("transA", 0)) else x
    y = b.turned(y, (1, 0)) if int(node.attr("transB", 0)) else y
    is_last = c is None and alpha == 1
    product = b.op("MatMul", [x, y], into=made(node) if is_last else None)
    if alpha != 1:
        product = b.op("Mul", [product, b.scalar_like(alpha, x)], into=made(node) if c is None else None)
    if c is not None:
        added = c if beta == 1 else b.op("Mul", [c, b.scalar_like(beta, x)])
        b.op("Add", [product, added], into=made(node))
    return True


@rule("Einsum as MatMul", "Einsum")
def einsum(b: RuleBuilder, node: Node) -> bool:
    """Two operands at a time: each is turned into batch, own and common axes, and multiplied."""
    equation = node.attr("equation")
    equation = (equation if isinstance(equation, str) else equation.decode()).replace(" ", "")
    if "." in equation:
        return False
    terms, arrow, result = equation.partition("->")
    labels = terms.split(",")
    if not arrow:
        result = "".join(sorted(c for c in set(terms) - {","} if terms.count(c) == 1))
    if any(len(set(term)) != len(term) for term in (*labels, result)) or len(labels) > 8:
        return False
    values = [given(node, index) for index in range(len(labels))]
    if not b.dtype(values[0]).is_float:
        return False
    sizes = {c: s for term, v in zip(labels, values, strict=True) for c, s in zip(term, b.shape(v), strict=True)}
    if any(b.shape(v) != tuple(sizes[c] for c in term) for term, v in zip(labels, values, strict=True)):
        return False  # a size of one is broadcast
    value, term = values[0], labels[0]
    for index in range(1, len(values)):
        wanted = set(result).union(*labels[index + 1 :])
        value, term = _product(b, value, term, values[index], labels[index], wanted, sizes)
    summed = [i for i, c in enumerate(term) if c not in result]
    if summed:
        value = b.reduced("ReduceSum", value, summed, keep=False)
        term = "".join(c for c in term if c in result)
    perm = [term.index(c) for c in result]
    if perm == sorted(perm):
        b.op("Identity", [value], into=made(node))
    else:
        b.turned(value, perm, into=made(node))
    return True


def _product(
    b: RuleBuilder, x: Value, left: str, y: Value, right: str, wanted: set[str], sizes: dict[str, int]
) -> tuple[Value, str]:
    batch = [c for c in left if c in right and c in wanted]
    common = [c for c in left if c in right and c not in wanted]
    own_left = [c for c in left if c not in right]
    own_right = [c for c in right if c not in left]

    def arranged(value: Value, term: str, *groups: Sequence[str]) -> Value:
        order = [term.index(c) for group in groups for c in group]
        turned = value if order == sorted(order) else b.turned(value, order)
        return b.reshaped(turned, [math.prod(sizes[c] for c in group) for group in groups])

    product = b.op("MatMul", [arranged(x, left, batch, own_left, common), arranged(y, right, batch, common, own_right)])
    term = "".join([*batch, *own_left, *own_right])
    return b.reshaped(product, [sizes[c] for c in term]), term


@rule("Resize as products with matrices of weights", "Resize")
def resize(b: RuleBuilder, node: Node) -> bool:
    """Each axis by itself is a linear map; its matrix is what the operator makes of an identity."""
    x, out = given(node, 0), b.shape(made(node))
    shape = b.shape(x)
    mode = node.attr("mode", "nearest")
    if len(shape) != 4 or b.dtype(x) is not DType.FLOAT32 or b.opset < 11:
        return False
    if node.attr("coordinate_transformation_mode", "half_pixel") in ("tf_crop_and_resize", b"tf_crop_and_resize"):
        return False
    if shape[:2] != out[:2] or (mode in ("cubic", b"cubic") and int(node.attr("exclude_outside", 0))):
        return False
    if any(shape[axis] * out[axis] > _LARGEST_MATRIX for axis in (2, 3)):
        return False
    value: Value = x
    if shape[2] != out[2]:  # rows: W @ x
        value = b.op("MatMul", [b.constant(np.ascontiguousarray(_matrix(b, node, 2))), value])
    if shape[3] != out[3]:
        value = b.op("MatMul", [value, b.constant(np.ascontiguousarray(_matrix(b, node, 3).T))])
    b.op("Identity", [value], into=made(node))
    return True


def _matrix(b: RuleBuilder, node: Node, axis: int) -> npt.NDArray[np.float32]:
    """What the node does along one axis, as a matrix of (new size, old size)."""
    shape, out = b.shape(given(node, 0)), b.shape(made(node))
    size = shape[axis]
    scales, asked = b.content(node.input(2)), b.content(node.input(3))
    probe = [size, 1, 1, 1]
    probe[axis] = size
    content = np.eye(size, dtype=np.float32).reshape(probe)
    graph = Graph("weights of a Resize")
    graph.opset_imports = {"": b.opset}
    attributes = kept(node, "axes")
    inputs: list[Value | None] = [Value("x", constant=Tensor.from_numpy(content)), None]
    if scales is not None and scales.size:
        factors = np.ones(4, np.float32)
        axes = node.attr("axes") or range(4)
        factors[axis] = dict(zip((int(a) % 4 for a in axes), scales.reshape(-1), strict=True)).get(axis, 1.0)
        inputs.append(Value("scales", constant=Tensor.from_numpy(factors)))
    elif asked is not None:
        sizes = [*probe]
        sizes[axis] = out[axis]
        inputs += [None, Value("sizes", constant=Tensor.from_numpy(np.asarray(sizes, np.int64)))]
        attributes.pop("keep_aspect_ratio_policy", None)
    else:
        raise ValueError("the new size is computed by the run")
    made_value = Value("y")
    graph.nodes = [Node("Resize", inputs, [made_value], name="Resize", attributes=attributes)]
    graph.outputs = [made_value]
    (found,) = b.compute(graph)
    return found.numpy().reshape(size, out[axis]).T


@rule("Resize in the manner that more devices have", "Resize", "Upsample", exact=True)
def other_manner(b: RuleBuilder, node: Node) -> bool:
    """Whole factors: repeating each element is the same in every manner of counting pixels."""
    x, out = given(node, 0), b.shape(made(node))
    shape, mode = b.shape(x), node.attr("mode", "nearest")
    if len(shape) != 4 or shape[:2] != out[:2] or mode not in ("nearest", b"nearest") or b.opset < 11:
        return False
    if any(o % s for s, o in zip(shape, out, strict=True)):
        return False
    wanted = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    if all(node.attr(key) in (value, value.encode()) for key, value in wanted.items()):
        return False
    if b.content(node.input(2)) is None and b.content(node.input(3)) is None:
        return False
    factors = np.asarray([o / s for s, o in zip(shape, out, strict=True)], np.float32)
    b.op("Resize", [x, None, b.constant(factors)], wanted, into=made(node))
    return True


@rule("Resize by whole factors as repetition", "Resize", exact=True)
def repeated(b: RuleBuilder, node: Node) -> bool:
    x, out = given(node, 0), b.shape(made(node))
    shape, mode = b.shape(x), node.attr("mode", "nearest")
    if len(shape) != 4 or shape[:2] != out[:2] or mode not in ("nearest", b"nearest"):
        return False
    if any(o % s for s, o in zip(shape, out, strict=True)):
        return False
    rows, columns = out[2] // shape[2], out[3] // shape[3]
    n, c, h, w = shape
    wide = b.reshaped(x, (n * c * h, 1, w, 1))
    tiled = b.op("Tile", [wide, b.constant([1, rows, 1, columns], "int64")])
    b.reshaped(tiled, out, into=made(node))
    return True
