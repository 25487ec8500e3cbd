"""Rows of floats become bytes by the range of each, and are multiplied: all shapes, between guarded pages."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from harness import Array, Ran, check_nodes, here
from mace_cpu.quantized.rows.lower import PIECE
from mace_cpu.quantized.rows.patterns import BYTES, OFF, PADDED, SIZES, ZERO
from mace_cpu.quantized.rows.template import Made, Name, Pattern
from onnx import helper

from mace_core.tensor import DType

FEATURES = here(None, "avx2", "baseline")
RULES = tuple(BYTES)
LONG = 2 * PIECE + 3
"""Elements of a row that is done in pieces, of which the last one is short."""


class Written:
    """The nodes that compute patterns: as graphs have them, before they are found again."""

    def __init__(self, **values: str) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, Array] = {}
        self._names = dict(values)

    def value(self, pattern: Pattern, kind: type = np.float32) -> str:
        """The name of the value that ``pattern`` describes; ``kind`` is the type of constants in it."""
        if isinstance(pattern, Name):
            if pattern.name not in self._names:
                assert pattern.made is not None, f"nothing says what {pattern.name} is"
                self._names[pattern.name] = self.value(pattern.made, kind)
            return self._names[pattern.name]
        if isinstance(pattern, Made):
            return self.op(pattern.op_type, [self._input(pattern, one) for one in pattern.inputs], pattern.attributes)
        return self.constant(np.asarray(pattern, kind))

    def constant(self, array: Array) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = array
        return name

    def op(self, op_type: str, inputs: Sequence[str], attributes: object = None) -> str:
        name = f"v{len(self.nodes)}"
        given = dict(attributes) if attributes else {}  # type: ignore[call-overload]
        self.nodes.append(helper.make_node(op_type, inputs, [name], name=name, **given))
        return name

    def _input(self, made: Made, pattern: Pattern) -> str:
        """A constant is of the type of what it meets."""
        return self.value(pattern, np.float64 if any(map(_is_double, made.inputs)) else np.float32)


def _is_double(pattern: Pattern) -> bool:
    """Whether what is computed is float64."""
    if isinstance(pattern, Name):
        return pattern.made is not None and _is_double(pattern.made)
    if not isinstance(pattern, Made) or pattern.op_type in ("Equal", "Greater", "Less"):
        return False
    if pattern.op_type == "Cast":
        return pattern.attributes["to"] == DType.FLOAT64.value
    return any(map(_is_double, pattern.inputs))


def rows_of(shape: Sequence[int], seed: int = 0) -> Array:
    """Floats; each row has a range of its own, the first one nothing but 0."""
    rng = np.random.default_rng(seed)
    spread = rng.uniform(0.1, 5, (shape[0],) + (1,) * (len(shape) - 1))
    found: Array = (rng.normal(size=shape) * spread + rng.uniform(-3, 3)).astype(np.float32)
    if shape[0] > 1:
        found[0] = 0
    return found


def check(
    rule: str,
    x: Array,
    axes: Sequence[int],
    weights: Array | None = None,
    *,
    pads: Sequence[int] = (),
    group: int = 1,
    **how: object,
) -> Ran:
    """The bytes, the byte for 0 and the size of a step of each row; or, with weights, the products."""
    graph = Written(x="x", axes="axes", pads="pads")
    content = graph.value((PADDED if pads else BYTES)[rule])
    outputs = [content]
    zero, size = graph.value(ZERO), graph.value(SIZES[rule])
    graph.constants["axes"] = np.array(axes, np.int64)
    if pads:
        graph.constants["pads"] = np.array(pads, np.int64)
    if weights is None:
        outputs += [zero, size]
    else:
        is_image = weights.ndim > 2
        totals = weights.sum((1, 2, 3)).reshape(-1, 1, 1) if is_image else weights.sum(0)
        graph.constants |= {"w": weights, "totals": totals.astype(np.int32)}
        off = Written(zero=zero, totals="totals")
        off.nodes, off.constants = graph.nodes, graph.constants
        way = {"group": group} if group > 1 else None
        sums = graph.op("ConvInteger" if is_image else "MatMulInteger", [content, "w"], way)
        whole = graph.op("Cast", [graph.op("Sub", [sums, off.value(OFF)])], {"to": DType.FLOAT32.value})
        scales = np.random.default_rng(1).uniform(0.001, 0.01, totals.shape).astype(np.float32)
        outputs = [graph.op("Mul", [graph.op("Mul", [whole, size]), graph.constant(scales)])]
    return check_nodes(
        graph.nodes,
        {"x": x, **graph.constants},
        outputs,
        constants=list(graph.constants),
        oracle="onnxruntime",
        **how,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("threads", [1, pytest.param(3, marks=pytest.mark.full)])
@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((1, 1), [1]),
        ((5, 33), [1]),
        ((2, LONG), [1]),
        ((2, 3, 7, 5), [1]),
        ((2, 16, 3, 3), [1]),
        ((3, 5, 2, 9), [1, 2, 3]),
        ((2, 1, 4), [1]),
        pytest.param((1, LONG, 1, 2), [1], marks=pytest.mark.full),
        pytest.param((3, 1, 2, LONG), [1, 2, 3], marks=pytest.mark.full),
    ],
    ids=str,
)
@pytest.mark.parametrize("rule", RULES)
def test_bytes_of_rows(rule: str, shape: tuple[int, ...], axes: list[int], features: str | None, threads: int) -> None:
    ran = check(rule, rows_of(shape), axes, features=features, threads=threads)
    assert "QuantizeRows" in ran.steps
    assert ("RowRanges" in ran.steps) == (np.prod([shape[axis] for axis in axes]) > 2 * PIECE)


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("rows", [1, 2, 7])
@pytest.mark.parametrize(("depth", "columns"), [(1, 1), (3, 5), (16, 16), (33, 17), (64, 70)])
@pytest.mark.parametrize("rule", RULES)
def test_products_of_rows(rule: str, depth: int, columns: int, rows: int, features: str | None) -> None:
    weights = np.random.default_rng(2).integers(-127, 128, (depth, columns)).astype(np.int8)
    ran = check(rule, rows_of((rows, depth)), [1], weights, features=features, threads=2, tol=1e-6)
    assert {"QuantizeRows", "RowZeros"} <= set(ran.steps)


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("images", [1, 3])
@pytest.mark.parametrize(("depth", "units"), [(1, 1), (5, 3), (16, 32), (33, 17)])
@pytest.mark.parametrize("rule", RULES)
def test_pointwise_convolutions_of_pixels(rule: str, depth: int, units: int, images: int, features: str | None) -> None:
    weights = np.random.default_rng(3).integers(-127, 128, (units, depth, 1, 1)).astype(np.int8)
    ran = check(rule, rows_of((images, depth, 3, 5)), [1], weights, features=features, threads=2, tol=1e-6)
    assert {"QuantizeRows", "RowZeros"} <= set(ran.steps)


AROUND = (0, 0, 1, 1, 0, 0, 1, 1)
BEHIND = (0, 0, 0, 2, 0, 0, 3, 0)


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("pads", [(), AROUND, BEHIND], ids=str)
@pytest.mark.parametrize(("shape", "units"), [((1, 1, 5, 4), 1), ((1, 5, 6, 7), 3), ((1, 16, 3, 3), 33)])
@pytest.mark.parametrize("rule", RULES)
def test_windows_of_one_image(
    rule: str, shape: tuple[int, ...], units: int, pads: tuple[int, ...], features: str | None
) -> None:
    """Rounded together, an image is convolved with the zero point that the run brings, with which it is padded."""
    weights = np.random.default_rng(4).integers(-127, 128, (units, shape[1], 3, 3)).astype(np.int8)
    ran = check(rule, rows_of(shape), [1, 2, 3], weights, pads=pads, features=features, threads=2, tol=1e-6)
    assert {"QuantizeRows", "ZeroPoints"} <= set(ran.steps)


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("pads", [(), AROUND, BEHIND], ids=str)
@pytest.mark.parametrize("shape", [(1, 2, 4, 3), (1, 16, 3, 3), (1, 33, 6, 7)], ids=str)
@pytest.mark.parametrize("rule", RULES)
def test_windows_of_each_channel(
    rule: str, shape: tuple[int, ...], pads: tuple[int, ...], features: str | None
) -> None:
    weights = np.random.default_rng(5).integers(-127, 128, (shape[1], 1, 3, 3)).astype(np.int8)
    how = {"pads": pads, "group": shape[1], "features": features, "threads": 2, "tol": 1e-6}
    ran = check(rule, rows_of(shape), [1, 2, 3], weights, **how)  # type: ignore[arg-type]
    assert {"QuantizeRows", "ZeroPoints", "Padding"} <= set(ran.steps)
