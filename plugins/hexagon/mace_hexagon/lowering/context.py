"""Turns the nodes of a view into a QNN graph description, one by one, asking the library about each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from mace_core.graph import GraphView, Node, Value
from mace_core.tensor import DType
from mace_hexagon.clusters import Cluster, encoding_of, find_clusters, to_encoding
from mace_hexagon.description import Encoding, QOp, QTensor, fixed_type, plain_type
from mace_hexagon.qnn.types import DataType, TensorKind

Array = npt.NDArray[Any]
Order = tuple[int, ...]
"""``dims of the QNN tensor [i] = dims of the value [order[i]]``."""

NHWC: Order = (0, 2, 3, 1)
MAX_RANK = 5
INT32 = np.iinfo(np.int32)


class DeclinedError(Exception):
    """A node can not be lowered; the text is the reason given to the user."""


@dataclass(frozen=True, slots=True)
class Located:
    """A value inside the QNN graph."""

    tensor: QTensor
    order: Order


@dataclass
class Outcome:
    """What became of the nodes of a view.

    Attributes:
        clusters: quantised operators that were lowered whole.
        single: nodes that were lowered on their own.
        declined: the others, with reasons.
    """

    clusters: list[Cluster] = field(default_factory=list)
    single: list[Node] = field(default_factory=list)
    declined: dict[Node, str] = field(default_factory=dict)


Lower = Callable[["NodeContext"], None]
Check = Callable[[QOp], "str | None"]


class Lowering:
    """One pass over a view.

    Attributes:
        ops: the QNN graph so far.
        inputs, outputs: its application tensors, in the view's order (`finish` makes the outputs).
    """

    def __init__(self, view: GraphView, table: dict[str, Lower], check: Check, *, claims_only: bool = False) -> None:
        """``check`` says why the library does not take an operation; ``claims_only`` tolerates declined nodes."""
        self.view = view
        self.ops: list[QOp] = []
        self.inputs: list[QTensor] = []
        self.outputs: list[QTensor] = []
        self._table = table
        self._check = check
        self._claims_only = claims_only
        self._located: dict[Value, tuple[Located, ...]] = {}
        self._constants: dict[Any, QTensor] = {}
        self._names: set[str] = set()
        self._deferred: dict[Value, Node] = {}
        self._nodes = set(view.nodes)
        self._done: set[Node] = set()
        self._source: tuple[str, ...] = ()
        self._materialised: dict[Node, None] = {}
        self._folded: list[Node] = []

    # --- the pass -------------------------------------------------------------------------------------------------

    def run(self) -> Outcome:
        """Lower all nodes; those that can not be are declined, and their results become inputs."""
        outcome = Outcome()
        clusters = find_clusters(self.view)
        if not self._claims_only:
            for value in self.view.inputs:
                self.inputs.append(self._input(value))
        for node in self.view.nodes:
            if node in self._done:
                continue
            if all(value is None or self.view.constant(value) is not None for value in node.outputs):
                outcome.single.append(node)  # shape arithmetic: the signature decides it, nothing is left to run
                continue
            if not node.domain and node.op_type == "DequantizeLinear":
                self._defer(node, outcome)
                continue
            cluster = clusters.get(node)
            if cluster is not None and not cluster.node.domain:
                if self._attempt(cluster.node, cluster) is None:
                    outcome.clusters.append(cluster)
                    self._done.update((*(() if cluster.activation is None else (cluster.activation,)),))
                    self._done.update(cluster.quantizers)
                    continue
            reason = self._attempt(node, None)
            if reason is None:
                outcome.single.append(node)
            else:
                outcome.declined[node] = reason
        outcome.single += self._folded
        self._settle_outputs(outcome)
        self._settle_dequantizers(outcome)
        return outcome

    def _attempt(self, node: Node, cluster: Cluster | None) -> str | None:
        """Lower a node (or the cluster around it); on failure everything is as before and the reason returned."""
        ops, folded, located, done = len(self.ops), len(self._folded), dict(self._located), set(self._done)
        materialised = dict(self._materialised)
        lower = None if node.domain else self._table.get(node.op_type)
        if lower is None:
            return f"the Hexagon provider has no translation of {node.qualified_op} to QNN"
        self._source = node.source
        try:
            lower(NodeContext(self, node, cluster))
        except DeclinedError as error:
            del self.ops[ops:], self._folded[folded:]
            self._located, self._done, self._materialised = located, done, materialised
            return str(error)
        return None

    def _defer(self, node: Node, outcome: Outcome) -> None:
        stored, result = node.inputs[0], node.outputs[0]
        if stored is None or result is None or encoding_of(self.view, node, stored) is None:
            outcome.declined[node] = "its scale or zero point is not constant"
            return
        self._deferred[result] = node

    def _settle_dequantizers(self, outcome: Outcome) -> None:
        used = {node for cluster in outcome.clusters for node in cluster.nodes}
        for node in self._deferred.values():
            if node in self._materialised:
                outcome.single.append(node)
            elif node not in used:
                outcome.declined[node] = "none of the nodes that read it runs on this device"

    def _settle_outputs(self, outcome: Outcome) -> None:
        """Give every result needed outside its natural order; nodes whose result can not have it are declined."""
        declined = set(outcome.declined)
        for value in self.view.outputs:
            producer = value.producer
            if producer is None or producer in declined or (self._claims_only and producer not in self._nodes):
                continue
            ops = len(self.ops)
            self._source = producer.source
            try:
                tensor = self._output(value)
            except DeclinedError as error:
                del self.ops[ops:]
                outcome.declined[producer] = str(error)
                if producer in outcome.single:
                    outcome.single.remove(producer)
                continue
            self.outputs.append(tensor)

    # --- tensors --------------------------------------------------------------------------------------------------

    def unique(self, name: str) -> str:
        """A name no tensor or node has yet."""
        base = name or "unnamed"
        candidate, number = base, 1
        while candidate in self._names:
            candidate, number = f"{base}.{number}", number + 1
        self._names.add(candidate)
        return candidate

    def dtype(self, value: Value) -> DType:
        """The element type of a value."""
        found = self.view.tensor_type(value)
        if found is None:
            raise DeclinedError(f"the type of '{value.name}' is not known before the run")
        return found.dtype

    def shape(self, value: Value) -> tuple[int, ...]:
        """The shape of a value."""
        found = self.view.tensor_type(value)
        if found is None or not found.is_concrete:
            raise DeclinedError(f"the shape of '{value.name}' is not known before the run; QNN compiles fixed shapes")
        shape = found.concrete_shape
        if 0 in shape:
            raise DeclinedError(f"'{value.name}' is empty; QNN has no empty tensors")
        if len(shape) > MAX_RANK:
            raise DeclinedError(f"'{value.name}' has {len(shape)} dimensions; the HTP takes up to {MAX_RANK}")
        return shape

    def array(self, value: Value | None) -> Array | None:
        """The content of a value if it is constant, dequantised where it comes from constant DequantizeLinear."""
        if value is None:
            return None
        tensor = self.view.constant(value)
        if tensor is not None:
            return tensor.numpy()
        node = value.producer
        if node is None or node not in self._nodes or node.op_type != "DequantizeLinear" or node.domain:
            return None
        stored = self.view.constant(node.inputs[0])
        encoding = None if node.inputs[0] is None else encoding_of(self.view, node, node.inputs[0])
        if stored is None or encoding is None or encoding.block_size:
            return None
        self._materialised[node] = None
        codes = stored.numpy()
        scale, zero = encoding.scale.reshape(-1), encoding.zero_point.reshape(-1)
        if encoding.axis is not None:
            along = [1] * codes.ndim
            along[encoding.axis] = -1
            scale, zero = scale.reshape(along), zero.reshape(along)
        return ((codes.astype(np.int32) - zero.astype(np.int32)) * scale).astype(self.dtype(value).numpy)

    def constant(self, array: Array, name: str, encoding: Encoding | None = None, data_type: DataType | None = None
    ) -> QTensor:  # fmt: skip
        """A static tensor."""
        if array.dtype == np.int64:
            if array.size and (array.min() < INT32.min or array.max() > INT32.max):
                raise DeclinedError(f"'{name}' holds 64-bit integers beyond 32 bits, which QNN does not compute with")
            array = array.astype(np.int32)
        found = data_type or plain_type(DType.from_numpy(array.dtype))
        if found is None:
            raise DeclinedError(f"'{name}' is {array.dtype}, which QNN does not have")
        data = array.reshape(array.shape or (1,))
        return QTensor(self.unique(name), found, data.shape, TensorKind.STATIC, encoding, np.ascontiguousarray(data))

    def located(self, value: Value) -> Located:
        """Where a computed value is, in whatever order it has."""
        if value not in self._located:
            if value in self._deferred:
                self._dequantize(value)
            else:
                tensor = self._input(value)
                if not self._claims_only:
                    raise DeclinedError(f"'{value.name}' is neither an input nor computed on this device")
                del tensor
        return self._located[value][0]

    def tensor(self, value: Value, order: Order | None = None) -> QTensor:
        """A value as a tensor; transposed where it is not there in ``order`` (natural by default)."""
        constant = self.array(value)
        if constant is not None:
            return self._constant_of(value, constant, order)
        self.located(value)
        wanted = order if order is not None else tuple(range(len(self.shape(value))))
        places = self._located[value]
        for place in places:
            if place.order == wanted:
                return place.tensor
        source = places[0]
        perm = tuple(source.order.index(axis) for axis in wanted)
        result = self._like(source.tensor, f"{value.name}.{''.join(map(str, wanted))}", tuple(
            source.tensor.shape[axis] for axis in perm))  # fmt: skip
        moved = [axis for axis in perm if source.tensor.shape[axis] != 1]
        if moved == sorted(moved):
            self.add("Reshape", [source.tensor], [result])
        else:
            self.add("Transpose", [source.tensor], [result], perm=np.array(perm, np.uint32))
        self._located[value] = (*places, Located(result, wanted))
        return result

    def define(self, value: Value, tensor: QTensor, order: Order | None = None) -> None:
        """Say that ``tensor`` holds ``value``."""
        natural = tuple(range(len(self.shape(value))))
        self._located[value] = (Located(tensor, order if order is not None else natural),)

    def new_tensor(self, value: Value, order: Order | None = None, encoding: Encoding | None = None) -> QTensor:
        """A tensor that is to hold a computed ``value``."""
        shape = self.shape(value)
        laid = tuple(shape[axis] for axis in order) if order is not None else shape
        dtype = self.dtype(value)
        found = fixed_type(dtype) if encoding is not None else plain_type(DType.INT32 if dtype is DType.INT64 else dtype)
        if found is None:
            raise DeclinedError(f"'{value.name}' is {dtype.label}, which QNN does not have")
        return QTensor(self.unique(value.name), found, laid or (1,), TensorKind.NATIVE, encoding)

    def temporary(self, name: str, shape: Sequence[int], like: QTensor) -> QTensor:
        """An unnamed intermediate of the type and encoding of ``like``."""
        return self._like(like, name, tuple(shape) or (1,))

    def add(self, type: str, inputs: Sequence[QTensor], outputs: Sequence[QTensor], **params: Any) -> None:
        """Append an operation the library takes.

        Raises:
            DeclinedError: if it does not.
        """
        op = QOp(type, self.unique(f"{self._source[0] if self._source else 'node'}/{type}"), list(inputs),
                 list(outputs), params, self._source)  # fmt: skip
        reason = self._check(op)
        if reason is not None:
            shapes = ", ".join(f"{t.data_type.name.lower()}{list(t.shape)}" for t in inputs)
            raise DeclinedError(f"QNN does not take {type} on {shapes}: {reason}")
        self.ops.append(op)

    def mark_folded(self, node: Node) -> None:
        """``node`` was lowered together with an earlier one."""
        self._done.add(node)
        self._folded.append(node)

    # --- inside ---------------------------------------------------------------------------------------------------

    def _like(self, source: QTensor, name: str, shape: tuple[int, ...]) -> QTensor:
        if source.encoding is not None and source.encoding.axis is not None:
            raise DeclinedError(f"'{name}' is quantised per channel, and only weights may be")
        return QTensor(self.unique(name), source.data_type, shape, TensorKind.NATIVE, source.encoding)

    def _constant_of(self, value: Value, array: Array, order: Order | None) -> QTensor:
        key = (value, order)
        found = self._constants.get(key)
        if found is None:
            laid = array if order is None else np.transpose(array, order)
            found = self._constants[key] = self.constant(laid, value.name)
        return found

    def _input(self, value: Value) -> QTensor:
        """A value computed elsewhere."""
        shape, dtype = self.shape(value), self.dtype(value)
        encoding, found = None, plain_type(dtype)
        quantised = self.view.encoding(value)
        if quantised is not None and not (quantised.axis is not None and quantised.scale.size > 1):
            encoding = to_encoding(_scalar(quantised), len(shape))
            found = fixed_type(dtype) or found
        if found is None:
            raise DeclinedError(f"'{value.name}' is {dtype.label}, which QNN does not have")
        natural = tuple(range(len(shape)))
        tensor = QTensor(self.unique(value.name), found, shape or (1,), TensorKind.APP_WRITE, encoding)
        inner = tensor
        if dtype is DType.INT64:
            inner = QTensor(self.unique(f"{value.name}.int32"), DataType.INT_32, tensor.shape)
            self.add("Cast", [tensor], [inner])
        self._located[value] = (Located(inner, natural),)
        return tensor

    def _output(self, value: Value) -> QTensor:
        """The application tensor of a result."""
        tensor = self.tensor(value)
        if self.dtype(value) is DType.INT64:
            wide = QTensor(self.unique(f"{value.name}.int64"), DataType.INT_64, tensor.shape, TensorKind.APP_READ)
            self.add("Cast", [tensor], [wide])
            return wide
        if tensor.kind is not TensorKind.NATIVE:  # an input, a constant, or another output already
            copy = QTensor(
                self.unique(value.name), tensor.data_type, tensor.shape, TensorKind.APP_READ, tensor.encoding
            )
            self.add("Reshape", [tensor], [copy])
            return copy
        tensor.kind = TensorKind.APP_READ
        return tensor

    def _dequantize(self, value: Value) -> None:
        node = self._deferred[value]
        stored = node.inputs[0]
        assert stored is not None
        encoding = encoding_of(self.view, node, stored)
        place = self.located(stored)
        wanted = None if encoding is None else to_encoding(encoding, len(self.shape(stored)))
        if place.tensor.encoding is None or not place.tensor.encoding.equals(wanted):
            raise DeclinedError(f"'{stored.name}' is quantised per channel or in two ways, which QNN does not unpack")
        result = self.new_tensor(value, place.order)
        self.add("Dequantize", [place.tensor], [result])
        self._located[value] = (Located(result, place.order),)
        self._materialised[node] = None


def _scalar(encoding: Any) -> Any:
    from dataclasses import replace

    return replace(encoding, axis=None) if encoding.scale.size == 1 else encoding


class NodeContext:
    """What a lowering function sees of its node: operands as tensors, results to be made.

    In a cluster the operands are the quantised values behind the DequantizeLinear nodes, and the results those of the
    QuantizeLinear nodes; a lowering function need not know.
    """

    def __init__(self, lowering: Lowering, node: Node, cluster: Cluster | None) -> None:
        self.lowering = lowering
        self.node = node
        self.cluster = cluster

    # --- operands -------------------------------------------------------------------------------------------------

    @property
    def is_quantised(self) -> bool:
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
        """Whether the operand is constant, quantised or not."""
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
            return self.lowering.tensor(source.value, order)
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
            encoding = to_encoding(source.encoding, len(order))
            if stored is None or data_type is None or encoding is None:
                raise DeclinedError(f"the weights '{value.name}' are not constant or quantised in blocks")
            if encoding.axis is not None:
                if shape is not None and len(shape) != len(order):
                    raise DeclinedError(f"the weights '{value.name}' are quantised per channel and reshaped")
                encoding = Encoding(encoding.scales, encoding.zero_points, order.index(encoding.axis))
            data = np.transpose(stored.numpy(), order)
            return self.lowering.constant(data if shape is None else data.reshape(shape), value.name, encoding, data_type)
        array = self.lowering.array(value)
        if array is None:
            raise DeclinedError(f"the weights '{value.name}' are not constant")
        data = np.transpose(array, order)
        return self.lowering.constant(data if shape is None else data.reshape(shape), value.name)

    def constant(self, array: Array, name: str = "constant") -> QTensor:
        """A constant of the lowering's own, in the real numbers' type."""
        return self.lowering.constant(array, f"{self.node.name}.{name}")

    # --- results --------------------------------------------------------------------------------------------------

    def out_shape(self, index: int = 0) -> tuple[int, ...]:
        """The result's shape in the model."""
        return self.lowering.shape(self._result(index))

    def out_dtype(self, index: int = 0) -> DType:
        """The result's element type in the model."""
        return self.lowering.dtype(self._result(index))

    def out_encoding(self, index: int = 0) -> Encoding | None:
        """The result's encoding in a cluster."""
        if self.cluster is None:
            return None
        node = self.cluster.quantizers[index]
        stored = node.outputs[0]
        assert stored is not None
        found = encoding_of(self.lowering.view, node, stored)
        assert found is not None
        return to_encoding(found, len(self.lowering.shape(stored)))

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
            if not _is_implied(bounds, encoding, self.lowering.dtype(stored)):
                clipped = self.lowering.new_tensor(stored, order, encoding)
                low, high = (np.float32(bound) for bound in bounds)
                self.lowering.add("ReluMinMax", [tensor], [clipped], min_value=low, max_value=high)
                tensor = clipped
        self.lowering.define(stored, tensor, order)

    def alias(self, order: Order) -> None:
        """The result is operand 0 seen in another order; nothing is computed.

        Raises:
            DeclinedError: in a cluster that requantises.
        """
        value = self.operand(0)
        if self.cluster is not None:
            value = self.cluster.sources[value].value
        place = self.lowering.located(value)
        self.require_same_encoding(place.tensor)
        self.lowering.define(self._stored(0), place.tensor, order)

    def require_same_encoding(self, tensor: QTensor) -> None:
        """Operations that only move numbers do not requantise.

        Raises:
            DeclinedError: if the result is quantised in another way than ``tensor``.
        """
        if self.cluster is not None:
            encoding = self.out_encoding()
            if encoding is None or not encoding.equals(tensor.encoding) or self.cluster.activation is not None:
                raise DeclinedError(f"{self.node.op_type} quantises its result in another way than its operand")

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

    def _result(self, index: int) -> Value:
        found = self.node.output(index)
        if found is None:
            raise DeclinedError(f"output {index} of {self.node.op_type} is left out")
        return found

    def _stored(self, index: int) -> Value:
        if self.cluster is None:
            return self._result(index)
        stored = self.cluster.quantizers[index].outputs[0]
        assert stored is not None
        return stored


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


def _is_implied(bounds: tuple[float, float], encoding: Encoding, dtype: DType) -> bool:
    """Whether the encoding can not stand for numbers outside the bounds, give or take half a step."""
    limits = np.iinfo(dtype.numpy)
    scale, zero = float(encoding.scales[0]), int(encoding.zero_points[0])
    slack = scale / 2
    return (limits.min - zero) * scale >= bounds[0] - slack and (limits.max - zero) * scale <= bounds[1] + slack
