"""What the lowering function of one node sees and does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mace_apu.description import Operand, scalar_int
from mace_apu.lowering.activations import Bounds, activation_bounds, fuse_code
from mace_apu.lowering.errors import DeclinedError
from mace_apu.lowering.orders import Order
from mace_apu.lowering.types import BYTES, FLOATS
from mace_apu.lowering.values import Array, arranged, int32_vector, scale_and_zero
from mace_apu.neuron.constants import Fuse, OperandCode, Operation
from mace_core.graph import Node, Value, node_encoding
from mace_core.graph.clusters import ACTIVATIONS, Cluster, only_user
from mace_core.tensor import DType, QuantEncoding

if TYPE_CHECKING:
    from mace_apu.lowering.engine import Lowering

__all__ = ["DeclinedError", "Lower", "NodeContext"]


class NodeContext:
    """What a lowering function sees of its node: operands, results to be made.

    In a cluster the operands are the quantized values behind the DequantizeLinear nodes, and the results those of the
    QuantizeLinear nodes; a lowering function need not know.
    """

    def __init__(self, lowering: Lowering, node: Node, cluster: Cluster | None) -> None:
        self.lowering = lowering
        self.node = node
        self.cluster = cluster
        self._folded: Value | None = None
        self._bounds: Bounds | None = None
        if cluster is not None and cluster.activation is not None:
            self._bounds = activation_bounds(lowering, cluster.activation)

    # --- operands --------------------------------------------------------------------------------------------------

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

    def stored(self, index: int) -> Value:
        """The operand, in a cluster the quantized value behind it."""
        value = self.operand(index)
        source = None if self.cluster is None else self.cluster.sources.get(value)
        return value if source is None else source.value

    def encoding(self, index: int) -> QuantEncoding | None:
        """How the operand is quantized in a cluster."""
        source = None if self.cluster is None else self.cluster.sources.get(self.operand(index))
        return None if source is None else source.encoding

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
        return self.lowering.view.constant(self.stored(index)) is not None or self.array(index) is not None

    def integers(self, index: int) -> list[int]:
        """The operand's content as numbers.

        Raises:
            DeclinedError: if it is not constant.
        """
        found = self.array(index)
        if found is None:
            raise DeclinedError(f"input '{self.operand(index).name}' of {self.node.op_type} is not constant")
        return [int(number) for number in found.reshape(-1)]

    def x(self, index: int = 0, order: Order | None = None) -> Operand:
        """The operand in ``order`` (natural by default)."""
        encoding, value = self.encoding(index), self.stored(index)
        codes = self.lowering.view.constant(value) if encoding is not None else None
        if encoding is not None and codes is not None:
            laid = arranged(codes.numpy(), self.lowering.natural(value) if order is None else order)
            return self.lowering.quantized_constant(laid, value.name, encoding)
        found = self.lowering.tensor(value, order)
        if encoding is not None and (
            found.code not in BYTES or (found.scale, found.zero_point) != scale_and_zero(encoding)
        ):
            raise DeclinedError(f"'{value.name}' is quantized in two ways or not in 8 bits")
        if self.is_quantized and encoding is None and found.code in FLOATS:
            raise DeclinedError(f"'{value.name}' is not quantized, the other operands of {self.node.op_type} are")
        return found

    def order(self, index: int = 0) -> Order:
        """The order in which the operand is there already."""
        if self.is_constant(index):
            return self.lowering.natural(self.operand(index))
        return self.lowering.order_of(self.stored(index))

    def constant(self, array: Array, name: str = "constant") -> Operand:
        """A constant of the lowering's own."""
        return self.lowering.constant(array, f"{self.node.name}.{name}")

    def scalar(self, number: float, like: Operand, name: str = "number") -> Operand:
        """A constant real number, as operations on ``like`` take it."""
        half = like.code is OperandCode.TENSOR_FLOAT16
        code = OperandCode.FLOAT16 if half else OperandCode.FLOAT32
        return Operand(f"{self.node.name}.{name}", code, data=np.asarray(number, np.float16 if half else np.float32))

    # --- results ---------------------------------------------------------------------------------------------------

    def result(self, index: int = 0) -> Value:
        """The value that the operation makes: in a cluster the quantized one, else that of a fused activation."""
        if self.cluster is not None:
            made = self.cluster.quantizers[index].outputs[0]
        else:
            made = self._folded if self._folded is not None else self.node.output(index)
        if made is None:
            raise DeclinedError(f"output {index} of {self.node.op_type} is left out")
        return made

    def out_shape(self, index: int = 0) -> tuple[int, ...]:
        """The result's shape in the model."""
        return self.lowering.shape(self.result(index))

    def out_natural(self, index: int = 0) -> Order:
        """The order of the result's axes as they are."""
        return self.lowering.natural(self.result(index))

    def out_encoding(self, index: int = 0) -> QuantEncoding | None:
        """The result's encoding in a cluster."""
        return None if self.cluster is None else node_encoding(self.lowering.view, self.cluster.quantizers[index])

    def fold(self, node: Node) -> None:
        """The operation makes the result of ``node``, which follows, too."""
        self.lowering.mark_folded(node)
        self._folded = node.outputs[0]

    def fuse(self) -> Operand:
        """The activation that the operation is to end with, as its operand: one that follows, or none."""
        code = Fuse.NONE
        if self.cluster is not None:
            if self._bounds is not None and (code := fuse_code(self._bounds)) is not Fuse.NONE:
                self._bounds = None
        else:
            made = self.result()
            follower = only_user(self.lowering.view, made)
            reads = follower is not None and follower in self.lowering.nodes and follower.inputs[0] is made
            if follower is not None and reads and follower.op_type in ACTIVATIONS:
                code = self._fuse_follower(follower)
        return scalar_int(int(code), f"{self.node.name}.activation")

    def _fuse_follower(self, follower: Node) -> Fuse:
        try:
            code = fuse_code(activation_bounds(self.lowering, follower))
        except DeclinedError:
            return Fuse.NONE  # whoever lowers the activation says why
        if code is not Fuse.NONE:
            self.fold(follower)
        return code

    def emit(self, operation: Operation, inputs: Sequence[Operand], order: Order | None = None, *, index: int = 0
    ) -> None:  # fmt: skip
        """Add the operation that computes a result."""
        result = self.new_result(order, index)
        self.lowering.add(operation, inputs, [result])
        self.finish(result, order, index)

    def new_result(self, order: Order | None = None, index: int = 0) -> Operand:
        """An operand for a result; call `finish` once an operation writes it."""
        laid = self.out_natural(index) if order is None else order
        return self.lowering.new_operand(self.result(index), laid, self.out_encoding(index))

    def finish(self, operand: Operand, order: Order | None = None, index: int = 0) -> None:
        """``operand`` holds the result; a cluster's activation follows here."""
        if self._bounds is not None:
            operand = self._within(operand, self._bounds)
        self.lowering.define(self.result(index), operand, self.out_natural(index) if order is None else order)

    def _within(self, operand: Operand, bounds: Bounds) -> Operand:
        """``operand`` cut off at the bounds, where its encoding does not do that by itself."""
        codes = np.iinfo(np.uint8 if operand.code is OperandCode.TENSOR_QUANT8_ASYMM else np.int8)
        for operation, bound, implied in (
            (Operation.MAXIMUM, bounds[0], codes.min), (Operation.MINIMUM, bounds[1], codes.max),
        ):  # fmt: skip
            code = int(np.clip(np.rint(bound / operand.scale) + operand.zero_point, codes.min, codes.max))
            if code != implied:
                limit = self.lowering.like(operand, f"{self.node.name}.bound", (1,) * len(operand.shape))
                limit.data = np.full(limit.shape, code, codes.dtype)
                cut = self.lowering.like(operand, operand.name, operand.shape)
                self.lowering.add(operation, [operand, limit], [cut])
                operand = cut
        return operand

    def alias(self, order: Order) -> None:
        """The result is operand 0 seen in another order; nothing is computed."""
        place = self.lowering.place(self.stored(0))
        self.require_same_encoding(place.operand)
        self.lowering.define(self.result(), place.operand, order)

    def require_same_encoding(self, operand: Operand, index: int = 0) -> None:
        """Operations that only move numbers do not requantize.

        Raises:
            DeclinedError: if the result is quantized in another way than ``operand``.
        """
        encoding = self.out_encoding(index)
        if encoding is not None:
            same = (operand.scale, operand.zero_point) == scale_and_zero(encoding)
            if not same or self._bounds is not None or operand.code not in BYTES:
                raise DeclinedError(f"{self.node.op_type} keeps the scale of its operand in Neuron, here it does not")

    def temporary(self, shape: Sequence[int], like: Operand, name: str = "inner") -> Operand:
        """An intermediate."""
        return self.lowering.like(like, f"{self.node.name}.{name}", shape)

    def compute(self, operation: Operation, inputs: Sequence[Operand], shape: Sequence[int] | None = None) -> Operand:
        """The intermediate that an operation makes of the type of its first operand."""
        result = self.temporary(inputs[0].shape if shape is None else shape, inputs[0], operation.name.lower())
        self.lowering.add(operation, inputs, [result])
        return result

    def is_half(self, operand: Operand) -> bool:
        """Whether operations on ``operand`` are computed in float16."""
        return operand.code is OperandCode.TENSOR_FLOAT16 or (
            operand.code is OperandCode.TENSOR_FLOAT32 and self.lowering.is_half
        )

    def repeats(self, shape: Sequence[int], wanted: Sequence[int]) -> Operand:
        """How often ``shape`` is repeated along each axis to make ``wanted``, as TILE takes it."""
        counts = [whole // size for size, whole in zip(shape, wanted, strict=True)]
        return int32_vector(counts, f"{self.node.name}.multiples")

    def reshaped(self, operand: Operand, shape: Sequence[int]) -> Operand:
        """``operand`` in another shape."""
        if tuple(shape) == operand.shape:
            return operand
        result = self.temporary(shape, operand, "reshaped")
        if operand.data is not None:
            result.data = operand.data.reshape(result.shape)
        else:
            self.lowering.reshape(operand, result)
        return result


Lower = Callable[[NodeContext], None]
"""Lowers one node, or raises `DeclinedError`."""
