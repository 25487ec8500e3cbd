"""Products over channels, tables and rows of activations among convolutions: no Transpose is left between them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from layout_support import Network, folded, run, transposes

from mace_core.graph import Graph, Value
from mace_core.optimizer import default_passes, optimize
from mace_core.optimizer.layout.facts import Facts
from mace_core.tensor.tensor import FileRange


class Dense(Network):
    """A network with dense layers over channels, as Keras writes them."""

    def normalized(self, x: Value, channels: int) -> Value:
        """LayerNormalization over channels in elementary nodes, the scale before the difference."""
        axis = self.constant([-1])
        mean = self.op("ReduceMean", x, axis, keepdims=1)[0]
        off = self.op("Sub", x, mean)[0]
        variance = self.op("ReduceMean", self.op("Mul", off, off)[0], axis, keepdims=1)[0]
        root = self.op("Sqrt", self.op("Add", variance, self.constant(1e-3, np.float32))[0])[0]
        scale = self.op("Mul", self.op("Reciprocal", root)[0], self.numbers((channels,)))[0]
        shift = self.op("Mul", self.op("Neg", mean)[0], scale)[0]
        return self.bias(self.op("Add", self.op("Mul", x, scale)[0], shift)[0], channels)

    def dense(self, x: Value, inputs: int, units: int, **chain: str) -> Value:
        """By way of a matrix, and back to the sizes that are read from the input."""
        sizes = self.op("Shape", x, start=0, end=3)[0]
        back = self.op("Concat", sizes, self.constant([units]), axis=0)[0]
        matrix = self.op("Reshape", x, self.constant([-1, inputs]))[0]
        weights, bias = self.numbers((units, inputs)), self.numbers((units,))
        made = self.op("Gemm", matrix, weights, bias, transB=1)[0]
        if chain:
            made = self.op(chain["between"], made)[0]
        return self.op("Reshape", made, back)[0]

    def block(self, x: Value) -> Value:
        """ConvNeXt's."""
        y = self.normalized(self.conv(x, 8, 8, 7, group=8, pads=(3, 3, 3, 3)), 8)
        y = self.op("Gelu", self.dense(y, 8, 16))[0]
        y = self.op("Mul", self.dense(y, 16, 8), self.numbers((8,)))[0]
        return self.op("Add", x, y)[0]


def _agree(graph: Graph, found: Graph, *shape: int) -> None:
    feeds: dict[str, Any] = {"x": np.random.default_rng(0).integers(-3, 4, shape).astype(np.float32)}
    for one, other in zip(run(graph, feeds).values(), run(found, feeds).values(), strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-4 * float(np.abs(one).max()))


def _network(*shape: int | str) -> Dense:
    net = Dense(*shape)
    net.graph.opset_imports = {"": 20}
    return net


@pytest.mark.parametrize("shape", [(1, 12, 12, 3), ("n", 12, 12, 3)])
def test_blocks_of_convnext_keep_one_transpose_at_their_input(shape: tuple[int | str, ...]) -> None:
    net = _network(*shape)
    x = net.conv(net.x, 8, 3, 4, strides=(2, 2))
    x = net.block(net.block(x))
    graph = net.done(net.op("ReduceMean", x, net.constant([1, 2]), keepdims=0)[0])
    assert len(transposes(graph)) == 6
    found = folded(graph)
    (left,) = transposes(found)
    assert left.inputs[0] is found.inputs[0]
    assert [node.op_type for node in found.nodes].count("Conv") == 3 + 4
    assert not {"Gemm", "MatMul", "Shape"} & {node.op_type for node in found.nodes}
    for n in (1, 3):
        if shape[0] == "n" or n == 1:
            _agree(graph, found, n, 12, 12, 3)


def test_what_is_done_to_rows_of_a_matrix_is_done_to_the_axes_they_had() -> None:
    net = _network("n", 6, 6, 3)
    graph = net.done(net.conv(net.dense(net.conv(net.x, 8, 3), 8, 4, between="Sigmoid"), 2, 4))
    found = folded(graph)
    assert len(transposes(found)) == 2
    assert "Reshape" not in {node.op_type for node in found.nodes if node.inputs[0].constant is None}  # type: ignore[union-attr]
    _agree(graph, found, 2, 6, 6, 3)


def test_a_product_without_a_transpose_near_it_stays_one() -> None:
    """A convolution saves nothing there."""
    net = _network(2, 4, 6, 5)
    y = net.op("Relu", net.op("MatMul", net.x, net.numbers((5, 7)))[0])[0]
    most = net.op("ReduceMax", net.x, net.constant([3]), keepdims=0)[0]
    graph = net.done(y, net.turned(most, (2, 0, 1)))
    found = folded(graph)
    assert [node.op_type for node in found.nodes] == [node.op_type for node in graph.nodes]


def test_a_product_with_weights_that_a_run_computes_stays_one() -> None:
    net = _network(1, 6, 6, 8)
    weights = net.op("ReduceMax", net.x, net.constant([0, 1]), keepdims=0)[0]
    graph = net.done(net.conv(net.op("MatMul", net.conv(net.x, 6, 8), weights)[0], 2, 8))
    found = folded(graph)
    assert "MatMul" in {node.op_type for node in found.nodes}
    _agree(graph, found, 1, 6, 6, 8)


@pytest.mark.parametrize("back", [(1, 6, 4, 7), (4, 6, 1, 7), (1, 4, 6, 7)])
def test_rows_that_are_given_other_axes_stay_rows_of_a_matrix(back: tuple[int, ...]) -> None:
    net = _network(1, 4, 6, 5)
    matrix = net.op("Reshape", net.conv(net.x, 5, 5), net.constant([-1, 5]))[0]
    made = net.op("Gemm", matrix, net.numbers((5, 7)))[0]
    graph = net.done(net.conv(net.op("Reshape", made, net.constant(back))[0], 2, 7))
    found = folded(graph)
    assert ("Gemm" in {node.op_type for node in found.nodes}) == (back != (1, 4, 6, 7))
    _agree(graph, found, 1, 4, 6, 5)


def test_a_product_of_a_matrix_that_others_read_stays() -> None:
    net = _network(1, 4, 6, 5)
    matrix = net.op("Reshape", net.conv(net.x, 5, 5), net.constant([-1, 5]))[0]
    made = net.op("Gemm", matrix, net.numbers((5, 7)), net.numbers((24, 7)))[0]
    made = net.op("Gemm", made, net.numbers((7, 7)))[0]
    graph = net.done(net.conv(net.op("Reshape", made, net.constant([1, 4, 6, 7]))[0], 2, 7), made)
    found = folded(graph)
    assert [node.op_type for node in found.nodes].count("Gemm") == 2
    _agree(graph, found, 1, 4, 6, 5)


@pytest.mark.parametrize("shape", [("n", 6, 6, 3), (2, 6, 6, 3)])
def test_a_table_is_read_in_the_order_of_convolutions(shape: tuple[int | str, ...]) -> None:
    """Functions of 16 bits are tables."""
    net = _network(*shape)
    y = net.conv(net.x, 8, 3)
    index = net.op("Cast", net.op("Clip", y, net.constant(-8, np.float32), net.constant(7, np.float32))[0], to=7)[0]
    graph = net.done(net.conv(net.op("Gather", net.numbers((16,)), index, axis=0)[0], 4, 8))
    found = folded(graph)
    assert len(transposes(found)) == 2
    _agree(graph, found, 2, 6, 6, 3)


def test_integers_times_a_matrix_are_a_convolution_of_integers() -> None:
    net = _network("n", 6, 6, 3)
    y = net.op("Clip", net.conv(net.x, 8, 3), net.constant(0, np.float32), net.constant(255, np.float32))[0]
    content = net.op("Cast", y, to=2)[0]
    weights = net.constant(np.random.default_rng(0).integers(-9, 9, (8, 5)), np.int8)
    sums = net.op("Cast", net.op("MatMulInteger", content, weights)[0], to=1)[0]
    graph = net.done(net.conv(sums, 2, 5))
    found = folded(graph)
    assert len(transposes(found)) == 2
    assert [node.op_type for node in found.nodes].count("ConvInteger") == 1
    _agree(graph, found, 2, 6, 6, 3)


def test_numbers_of_rows_beside_an_open_size_are_certain() -> None:
    """Neither what is broadcast nor the work of a convolution asks how large it is."""
    net = _network("n", 64, 64, 3)
    y = net.op("Sub", net.x, net.numbers((1, 1, 1, 3)))[0]
    y = net.op("Add", net.numbers((1, 1, 1, 3)), y)[0]
    graph = net.done(net.conv(y, 8, 3, 3))
    facts = Facts(graph, graph.opset_imports, {})
    assert all(facts.is_certain(value) for node in graph.nodes for value in node.outputs if value is not None)


def test_filters_of_weights_in_a_file_stay_in_that_file() -> None:
    """In another shape they are the same bytes: nothing is stored, or held, a second time."""
    net = _network(1, 6, 6, 8)
    graph = net.done(net.conv(net.dense(net.conv(net.x, 8, 8), 8, 64), 2, 64))
    (gemm,) = (node for node in graph.nodes if node.op_type == "Gemm")
    held = gemm.inputs[1].constant  # type: ignore[union-attr]
    assert held is not None
    held.source = FileRange("model", 0, held.nbytes)
    optimize(graph, default_passes())
    filters = [node.inputs[1] for node in graph.nodes if node.op_type == "Conv"]
    assert held.source in [value.constant.source for value in filters if value is not None and value.constant]


def test_a_value_of_the_graph_may_have_one_axis_less() -> None:
    """A reader in the middle of a chain that wants the matrix keeps it."""
    net = _network(1, 4, 6, 5)
    matrix = net.op("Reshape", net.conv(net.x, 5, 5), net.constant([-1, 5]))[0]
    made = net.op("Gemm", matrix, net.numbers((5, 7)))[0]
    other = net.op("ReduceSum", made, net.constant([1]), keepdims=0)[0]
    graph = net.done(net.conv(net.op("Reshape", made, net.constant([1, 4, 6, 7]))[0], 2, 7), other)
    found = folded(graph)
    assert "Gemm" in {node.op_type for node in found.nodes}
    _agree(graph, found, 1, 4, 6, 5)
