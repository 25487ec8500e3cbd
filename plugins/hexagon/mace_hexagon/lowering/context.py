"""What the lowering function of one node sees and does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mace_core.graph import Node, Value, node_encoding
from mace_core.graph.clusters import Cluster, Source
from mace_core.tensor import DType
from mace_hexagon.description import Encoding, QTensor, fixed_type, to_encoding

if TYPE_CHECKING:
    from mace_hexagon.lowering.engine import Lowering

Array = npt.NDArray[Any]
Order = tuple[int, ...]
"""``dims of the QNN tensor [i] = dims of the value [order[i]]``."""

NHWC: Order = (0, 2, 3, 1)
INT32 = np.iinfo(np.int32)
BIAS = 2
"""The operand that is added to products."""

MOVES_CODES = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze", "MaxPool"})
"""What does to codes as to the numbers they stand for, and keeps their encoding."""


class DeclinedError(Exception):
    """A node cannot be lowered; the text is the reason given to the user."""


class NodeContext:
    """What a lowering function sees of its node: operands as tensors, results to be made.

    In a cluster the operands are the quantized values behind the DequantizeLinear nodes, and the results those of the
    QuantizeLinear nodes; a lowering function need not know.
    """

    def __init__(self, lowering: Lowering, node: Node, cluster: Cluster | None) -> None:
        self.lowering = lowering
        self.node = node
        self.cluster = cluster

    # --- operands -------------------------------------------------------------------------------------------------

    @property
    def is_quantized(self) -> bool:
        return self.cluster is not None

    def attr(self, name: str, default: Any = None) -> Any:
        """An attribute of the node."""
        return self.node.attr(name, default)

    def has(self, index: int) -> bool:
        """Whether the operand is given."""
        return self.node.input(index) is not None

    def operand(self, index: int) -> Value:
        """The operand in the model.

        Raises:
            DeclinedError: if it is left out.
        """
        found = self.node.input(index)
        if found is None:
            raise DeclinedError(f"input {index} of {self.node.op_type} is left out")
        return found

    def shape(self, index: int = 0) -> tuple[int, ...]:
        """The operand's shape in the model."""
        return self.lowering.shape(self.operand(index))

    def dtype(self, index: int = 0) -> DType:
        """The operand's element type in the model."""
        return self.lowering.dtype(self.operand(index))

    def array(self, index: int) -> Array | None:
        """The operand's content in real numbers if it is constant."""
        return self.lowering.array(self.node.input(index))

    def is_constant(self, index: int) -> bool:
        """Whether the operand is constant, quantized or not."""
        value = self.operand(index)
        if self.cluster is not None and value in self.cluster.sources:
            value = self.cluster.sources[value].value
        return self.lowering.view.constant(value) is not None or self.lowering.array(value) is not None

    def integers(self, index: int) -> list[int]:
        """The operand's content as numbers.

        Raises:
            DeclinedError: if it is not constant.
        """
        found = self.array(index)
        if found is None:
            raise DeclinedError(f"input '{self.operand(index).name}' of {self.node.op_type} is not constant")
        return [int(number) for number in found.reshape(-1)]

    def x(self, index: int = 0, order: Order | None = None) -> QTensor:
        """The operand as a tensor in ``order``."""
        value = self.operand(index)
        if self.cluster is not None and value in self.cluster.sources:
            source = self.cluster.sources[value]
            if self.lowering.view.constant(source.value) is not None:
                return self.weight(index, order or tuple(range(len(self.shape(index)))))
            tensor, stated = self.lowering.tensor(source.value, order), to_encoding(source.encoding)
            if tensor.encoding is not None and not tensor.encoding.equals(stated):
                raise DeclinedError(f"'{source.value.name}' is read in another encoding than it was written in")
            return tensor
        return self.lowering.tensor(value, order)

    def order(self, index: int = 0) -> Order:
        """The order in which a computed operand is there already."""
        value = self.operand(index)
        if self.cluster is not None and value in self.cluster.sources:
            value = self.cluster.sources[value].value
        if self.lowering.view.constant(value) is not None or self.lowering.array(value) is not None:
            return tuple(range(len(self.shape(index))))
        return self.lowering.located(value).order

    def weight(self, index: int, order: Order, shape: Sequence[int] | None = None) -> QTensor:
        """A constant operand, transposed to ``order`` and then seen as ``shape``."""
        value = self.operand(index)
        if self.cluster is not None and value in self.cluster.sources:
            source = self.cluster.sources[value]
            stored = self.lowering.view.constant(source.value)
            data_type = None if stored is None else fixed_type(stored.dtype)
            encoding = to_encoding(source.encoding)
            if index == BIAS:
                self._require_bias_of_products(source)
            if stored is None or data_type is None or encoding is None:
                raise DeclinedError(f"the weights '{value.name}' are not constant or quantized in blocks")
            if encoding.axis is not None:
                if shape is not None and len(shape) != len(order):
                    raise DeclinedError(f"the weights '{value.name}' are quantized per channel and reshaped")
                encoding = Encoding(encoding.scales, encoding.zero_points, order.index(encoding.axis))
            data = np.transpose(stored.numpy(), order)
            return self.lowering.constant(
                data if shape is None else data.reshape(shape), value.name, encoding, data_type
            )
        array = self.lowering.array(value)
        if array is None:
            raise DeclinedError(f"the weights '{value.name}' are not constant")
        data = np.transpose(array, order)
        return self.lowering.constant(data if shape is None else data.reshape(shape), value.name)

    def _require_bias_of_products(self, bias: Source) -> None:
        """With weights per channel the library takes a bias for sums of products, whatever its encoding says."""
        assert self.cluster is not None
        operands = [self.cluster.sources.get(self.operand(index)) for index in (0, 1)]
        scales = [operand.encoding.scale for operand in operands if operand is not None]
        if len(scales) == 2 and scales[1].size > 1:
            products = (scales[0] * scales[1]).reshape(-1)
            given = np.broadcast_to(bias.encoding.scale.reshape(-1), products.shape)
            if not np.allclose(products, given, rtol=1e-3, atol=0):
                raise DeclinedError("a bias whose scales are not those of the products is not offered by QNN")

    def constant(self, array: Array, name: str = "constant") -> QTensor:
        """A constant of the lowering's own, in the real numbers' type."""
        return self.lowering.constant(array, f"{self.node.name}.{name}")

    # --- results --------------------------------------------------------------------------------------------------

    def out_shape(self, index: int = 0) -> tuple[int, ...]:
        """The result's shape in the model."""
        return self.lowering.shape(self.result(index))

    def out_dtype(self, index: int = 0) -> DType:
        """The result's element type in the model."""
        return self.lowering.dtype(self.result(index))

    def out_encoding(self, index: int = 0) -> Encoding | None:
        """The result's encoding in a cluster, and where codes are moved."""
        if self.cluster is None:
            moves = self.node.op_type in MOVES_CODES and not self.node.domain and not self.is_constant(0)
            return self.lowering.located(self.operand(0)).tensor.encoding if moves else None
        found = node_encoding(self.lowering.view, self.cluster.quantizers[index])
        assert found is not None
        return to_encoding(found)

    def emit(self, type: str, inputs: Sequence[QTensor], order: Order | None = None, *, index: int = 0, **params: Any
    ) -> QTensor:  # fmt: skip
        """Add the operation that computes a result."""
        result = self.result_tensor(order, index)
        self.lowering.add(type, inputs, [result], **params)
        self.finish(result, order, index)
        return result

    def result_tensor(self, order: Order | None = None, index: int = 0) -> QTensor:
        """A tensor for a result; call `finish` once an operation writes it."""
        return self.lowering.new_tensor(self._stored(index), order, self.out_encoding(index))

    def finish(self, tensor: QTensor, order: Order | None = None, index: int = 0) -> None:
        """``tensor`` holds the result; a cluster's activation follows here."""
        stored = self._stored(index)
        if self.cluster is not None and self.cluster.activation is not None:
            bounds = self._bounds(self.cluster.activation)
            encoding = tensor.encoding
            assert encoding is not None
            tensor = self._within(tensor, stored, order, encoding, bounds)
        self.lowering.define(stored, tensor, order)

    def _within(
        self, tensor: QTensor, stored: Value, order: Order | None, encoding: Encoding, bounds: tuple[float, float]
    ) -> QTensor:
        """``tensor`` cut off at the bounds, where its encoding does not do that by itself.

        ReluMinMax would do, but the HTP joins it to the operation before and then relies on the encoding to cut.
        """
        dtype = self.lowering.dtype(stored)
        codes = np.iinfo(dtype.numpy)
        scale, zero = float(encoding.scales[0]), int(encoding.zero_points[0])
        lowest, highest = (int(np.clip(np.rint(bound / scale) + zero, codes.min, codes.max)) for bound in bounds)
        for operation, code, implied in (
            ("ElementWiseMaximum", lowest, lowest == codes.min),
            ("ElementWiseMinimum", highest, highest == codes.max),
        ):
            if not implied:
                limit = np.full((1,) * len(tensor.shape), code, dtype.numpy)
                held = self.lowering.constant(limit, f"{self.node.name}.bound", encoding, tensor.data_type)
                cut = self.lowering.new_tensor(stored, order, encoding)
                self.lowering.add(operation, [tensor, held], [cut])
                tensor = cut
        return tensor

    def alias(self, order: Order) -> None:
        """The result is operand 0 seen in another order; nothing is computed.

        Raises:
            DeclinedError: in a cluster that requantizes.
        """
        value = self.operand(0)
        if self.cluster is not None:
            value = self.cluster.sources[value].value
        place = self.lowering.located(value)
        self.require_same_encoding(place.tensor)
        self.lowering.define(self._stored(0), place.tensor, order)

    def require_same_encoding(self, tensor: QTensor) -> None:
        """Operations that only move numbers do not requantize.

        Raises:
            DeclinedError: if the result is quantized in another way than ``tensor``.
        """
        if self.cluster is not None:
            encoding = self.out_encoding()
            if encoding is None or not encoding.equals(tensor.encoding) or self.cluster.activation is not None:
                raise DeclinedError(f"{self.node.op_type} quantizes its result in another way than its operand")

    def temporary(self, shape: Sequence[int], like: QTensor, name: str = "inner") -> QTensor:
        """An intermediate."""
        return self.lowering.temporary(f"{self.node.name}.{name}", shape, like)

    def reshaped(self, tensor: QTensor, shape: Sequence[int]) -> QTensor:
        """``tensor`` in another shape."""
        if tuple(shape) == tensor.shape:
            return tensor
        if tensor.data is not None and tensor.encoding is None:
            return self.lowering.constant(tensor.data.reshape(tuple(shape)), tensor.name)
        result = self.temporary(shape, tensor, "reshaped")
        self.lowering.add("Reshape", [tensor], [result])
        return result

    def _bounds(self, node: Node) -> tuple[float, float]:
        return activation_bounds(self.lowering, node)

    def result(self, index: int) -> Value:
        """The result in the model.

        Raises:
            DeclinedError: if it is left out.
        """
        found = self.node.output(index)
        if found is None:
            raise DeclinedError(f"output {index} of {self.node.op_type} is left out")
        return found

    def _stored(self, index: int) -> Value:
        if self.cluster is None:
            return self.result(index)
        stored = self.cluster.quantizers[index].outputs[0]
        assert stored is not None
        return stored


Lower = Callable[[NodeContext], None]
"""Lowers one node, or raises `DeclinedError`."""


def activation_bounds(lowering: Lowering, node: Node) -> tuple[float, float]:
    """Lowest and highest result of a Relu or Clip.

    Raises:
        DeclinedError: if they are not constant.
    """
    if node.op_type == "Relu":
        return 0.0, float("inf")
    low, high = node.attr("min"), node.attr("max")
    for index in (1, 2):
        value = node.input(index)
        if value is None:
            continue
        found = lowering.array(value)
        if found is None:
            raise DeclinedError(f"the bound '{value.name}' of Clip is not constant")
        if index == 1:
            low = float(found.reshape(-1)[0])
        else:
            high = float(found.reshape(-1)[0])
    return float("-inf") if low is None else float(low), float("inf") if high is None else float(high)
