"""Layers with constant weights, seen as matrices: Conv, Gemm and MatMul."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from mace_core.graph import Graph, Node, Value
from mace_core.quantization.weights.gram import Gram, rows_read
from mace_core.sparsity.patterns import Pattern
from mace_core.tensor import DType

Array: TypeAlias = npt.NDArray[Any]

WINOGRAD_TAPS = (3, 3)


@dataclass(frozen=True, slots=True)
class Layer:
    """A node that multiplies with constant weights.

    Attributes:
        node: Conv, Gemm (not transA) or MatMul (weights of two dimensions).
        weights: as stored, float32.
        groups, outputs, taps, inputs: the weights are (groups, outputs, inputs, taps).
    """

    node: Node
    weights: Array
    groups: int
    outputs: int
    taps: int
    inputs: int

    @property
    def x(self) -> Value:
        """What the weights are multiplied with."""
        value = self.node.inputs[0]
        assert value is not None
        return value

    @property
    def gram_bytes(self) -> int:
        """Memory for the second moments of its inputs."""
        return 8 * self.groups * (self.taps * self.inputs) ** 2

    def matrices(self) -> Array:
        """The weights as (groups, outputs, inputs * taps), the taps of an input side by side."""
        weights = self.weights.T if self._lies_by_inputs else self.weights
        return weights.reshape(self.groups, self.outputs, self.inputs * self.taps)

    def stored(self, matrices: Array) -> Array:
        """The inverse of `matrices`."""
        if self._lies_by_inputs:
            return np.ascontiguousarray(matrices[0].T)
        return np.ascontiguousarray(matrices.reshape(self.weights.shape))

    def pattern(self, wanted: Pattern) -> Pattern:
        """``wanted``, or with a pattern for each tap where no device computes the layer by Winograd's method.

        That method mixes the taps of a kernel, so that it can leave out nothing where they have patterns of their own.
        """
        is_moved = any(step != 1 for name in ("strides", "dilations") for step in self.node.attr(name, ()))
        is_mixed = self.groups == 1 and self.weights.shape[2:] == WINOGRAD_TAPS and not is_moved
        by_tap = wanted.by_tap or (self.taps > 1 and not is_mixed)
        return Pattern(wanted.kept, wanted.group, wanted.shared, by_tap)

    def rows(self, x: Array) -> Array:
        """What the weights are multiplied with where the node reads ``x``: (groups, rows, inputs * taps)."""
        return rows_read(self.node, self.weights.shape[2:], self.groups, x)

    def gram(self) -> Gram:
        """An empty one, to be fed `rows`."""
        return Gram(self.node.name, self.groups, self.inputs * self.taps)

    @property
    def _lies_by_inputs(self) -> bool:
        return self.node.op_type == "MatMul" or (self.node.op_type == "Gemm" and not self.node.attr("transB", 0))


def layer_of(node: Node) -> Layer | None:
    """A node as a layer with constant float32 weights, or None where it is none."""
    weights = node.input(1)
    if node.domain or weights is None or weights.constant is None or weights.constant.dtype is not DType.FLOAT32:
        return None
    shape, array = weights.constant.shape, weights.constant.numpy()
    if not math.prod(shape):
        return None
    if node.op_type == "Conv" and len(shape) > 2:
        groups = int(node.attr("group", 1))
        return Layer(node, array, groups, shape[0] // groups, math.prod(shape[2:]), shape[1])
    if len(shape) == 2 and (node.op_type == "MatMul" or (node.op_type == "Gemm" and not node.attr("transA", 0))):
        outputs, inputs = shape if node.op_type == "Gemm" and node.attr("transB", 0) else shape[::-1]
        return Layer(node, array, 1, outputs, 1, inputs)
    return None


def layers_of(graph: Graph) -> list[Layer]:
    """The layers of a graph, in order."""
    return [layer for node in graph.nodes if (layer := layer_of(node)) is not None]


def first_and_last(graph: Graph, layers: list[Layer]) -> tuple[set[Node], set[Node]]:
    """Layers before which there is no other, and those behind which there is none."""
    mine = {layer.node for layer in layers}
    behind: set[Value] = set()  # values that depend on a layer
    first, last = set(), set(mine)
    from_layer: dict[Value, set[Node]] = {}
    for node in graph.nodes:
        read = [value for value in node.inputs if value is not None]
        sources: set[Node] = set().union(*(from_layer.get(value, set()) for value in read))
        if node in mine:
            if not any(value in behind for value in read):
                first.add(node)
            last -= sources
            sources = {node}
        for value in node.outputs:
            if value is not None:
                from_layer[value] = sources
                if node in mine or any(other in behind for other in read):
                    behind.add(value)
    return first, last
