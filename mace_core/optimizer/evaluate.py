"""What is known of nodes that read constants alone: types, contents where they are exact, and what computing costs."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import numpy as np

from mace_core.errors import ModelError
from mace_core.graph import Graph, Node, Value
from mace_core.operators.context import Array, NodeContext
from mace_core.operators.resolver import Resolver
from mace_core.tensor import DType, Tensor, TensorType

logger = logging.getLogger("mace.optimizer")

MAX_GROWTH_BYTES = 1 << 20
"""A folded node may need this much more memory than the constants it replaces (a Range or Expand can blow up)."""

MAX_UNPACKED = 8
MAX_UNPACKED_BYTES = 256 << 20
"""A Gather may take the rows of its data so often, up to so much memory: pruned weights are stored without their zeros
and put together by one."""

MAX_TEXT = 1 << 16
"""Characters of texts that are put together when a model is loaded: each of them takes up to four bytes."""

MAX_ELEMENTS = 1 << 20
"""Elements read and written by a node that is computed by a provider while a model is loaded."""

MAX_ELEMENTS_OF_SUMS = 1 << 16
"""The same for operators whose work grows faster than their inputs, as far as it is not counted by `MAX_PRODUCTS`."""

MAX_PRODUCTS = 1 << 28
"""Multiplications of a node that is computed while a model is loaded."""

_SUMS = frozenset(
    {"Conv", "ConvInteger", "ConvTranspose", "DeformConv", "DFT", "Det", "Einsum", "LSTM", "GRU", "RNN", "QLinearConv"}
    | {"AffineGrid", "Attention", "GridSample", "LinearAttention", "NonMaxSuppression", "RoiAlign", "STFT"}
    | {"AveragePool", "LpPool", "LRN", "MaxPool", "MaxRoiPool", "Resize", "TfIdfVectorizer"}
    | {"MelWeightMatrix", "StringConcat", "StringSplit", "StringNormalizer", "RegexFullMatch", "Upsample"}
)

_PRODUCTS = frozenset({"MatMul", "Gemm", "MatMulInteger", "QLinearMatMul"})


class ConstantFacts:
    """Types and exact contents of nodes whose inputs are constants or computed by other such nodes."""

    def __init__(
        self, graph: Graph, nodes: Sequence[Node], opset_imports: Mapping[str, int], *, may_grow: bool = False
    ) -> None:
        """``nodes`` are in the order of ``graph``; ``may_grow``: results may be of any size."""
        self._resolver = _ConstantResolver(graph, opset_imports, may_grow=may_grow)
        read = {value.constant for node in nodes for value in node.inputs if value is not None}
        self._in_files = {
            (tensor.payload.ctypes.data, tensor.nbytes, tensor.dtype): tensor
            for tensor in read
            if tensor is not None and tensor.source is not None and tensor.nbytes
        }
        with np.errstate(all="ignore"):
            for node in nodes:
                try:
                    self._resolver.visit(node)
                except ModelError as error:
                    logger.info("node '%s' (%s) is not folded: %s", node.name, node.op_type, error)

    def contents(self, node: Node) -> list[Tensor | None] | None:
        """The outputs of ``node``, None for one left out; None where some are not known exactly."""
        found: list[Tensor | None] = []
        for value in node.outputs:
            if value is None:
                found.append(None)
                continue
            array, type_ = self._resolver.contents.get(value), self._resolver.types.get(value)
            if array is None or not isinstance(type_, TensorType):
                return None
            tensor = Tensor.from_numpy(np.ascontiguousarray(array).reshape(array.shape))
            if tensor.dtype is not type_.dtype or tensor.shape != type_.shape:
                logger.warning("node '%s' (%s) is not folded: it gave %s", node.name, node.op_type, tensor)
                return None
            found.append(self._as_in_file(tensor))
        return found

    def _as_in_file(self, tensor: Tensor) -> Tensor:
        """The tensor, with its place in the model's file if it is the bytes there in another shape: then they need not
        be stored with the graph, nor be held in memory beside what is made of them."""
        if tensor.dtype is DType.STRING:
            return tensor
        held = self._in_files.get((tensor.payload.ctypes.data, tensor.nbytes, tensor.dtype))
        return tensor if held is None else Tensor(tensor.dtype, tensor.shape, held.payload, held.source)

    def is_cheap(self, node: Node) -> bool:
        """Whether a provider may compute the node while the model is loaded: its results are tensors of known size,
        little larger than what it reads, and made with little work."""
        read = {value for value in node.inputs if value is not None}
        types = [self._resolver.type_of(value) for value in node.outputs if value is not None]
        sizes = [_elements(found) for found in types]
        if any(size is None for size in sizes) or not self._resolver.fits(node):
            return False
        elements = sum(size or 0 for size in sizes) + sum(self._size(value) for value in read)
        if node.op_type in _SUMS:
            texts = [value.constant for value in read if value.constant is not None]
            letters = sum(_letters(tensor) for tensor in texts if tensor.dtype is DType.STRING)
            return elements <= MAX_ELEMENTS_OF_SUMS and letters <= MAX_TEXT
        if node.op_type in _PRODUCTS:
            first = self._resolver.type_of(node.inputs[0]) if node.inputs[0] is not None else None
            summed = max(first.concrete_shape, default=1) if isinstance(first, TensorType) else 1
            return sum(size or 0 for size in sizes) * summed <= MAX_PRODUCTS
        return elements <= MAX_ELEMENTS

    def _size(self, value: Value) -> int:
        return _elements(self._resolver.type_of(value)) or 0


def _elements(found: object) -> int | None:
    if not isinstance(found, TensorType) or not found.is_concrete:
        return None
    return found.size


def _letters(tensor: Tensor) -> int:
    return sum(len(item) for item in tensor.payload.reshape(-1))


class _ConstantResolver(Resolver):
    """Evaluates tensors of any size, as long as they are not much larger than what they are made from."""

    def __init__(self, root: Graph, opset_imports: Mapping[str, int], *, may_grow: bool) -> None:
        super().__init__(root, opset_imports)
        self._may_grow = may_grow

    def visit(self, node: Node) -> None:
        """Find the types of the node's outputs, and their contents where they are exact.

        Raises:
            ModelError: if its inputs cannot be.
        """
        if self._inputs_reached(node):
            opset = self.opset_imports.get(node.domain, 1)
            self._resolve_node(NodeContext(node, opset, self.types, self.contents, self))

    def content_of(self, value: Value) -> Array | None:
        found = self.contents.get(value)
        if found is None and value.constant is not None and value.constant.dtype is not DType.STRING:
            return value.constant.numpy()
        return found

    def is_readable(self, value: Value, content: Array | None) -> bool:
        return True

    def may_evaluate(self, node: Node) -> bool:
        return self._may_grow or self.fits(node)

    def fits(self, node: Node) -> bool:
        """Whether the results take little more memory than what they are computed from."""
        taken = sum(_bytes(self.type_of(value)) for value in {v for v in node.inputs if v is not None})
        made = sum(_bytes(self.type_of(value)) for value in node.outputs if value is not None)
        if node.op_type == "Gather" and not node.domain and made <= min(MAX_UNPACKED * taken, MAX_UNPACKED_BYTES):
            return True
        return made <= taken + MAX_GROWTH_BYTES


def _bytes(found: object) -> int:
    """Memory a tensor takes; more than any limit where its size is not known."""
    elements = _elements(found)
    if elements is None or not isinstance(found, TensorType):
        return 1 << 62
    return 8 * elements if found.dtype is DType.STRING else int(elements * found.dtype.numpy.itemsize)
