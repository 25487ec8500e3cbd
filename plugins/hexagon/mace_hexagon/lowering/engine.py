"""Turns the nodes of a view into a QNN graph description, one by one, asking the library about each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mace_core.graph import GraphView, Node, Value, node_encoding
from mace_core.graph.clusters import Cluster, find_clusters
from mace_core.tensor import DType
from mace_hexagon.description import CODES, Content, Encoding, QOp, QTensor, fixed_type, plain_type, to_encoding
from mace_hexagon.lowering.carriers import INTEGERS, WIDE, enter, held_type, leave
from mace_hexagon.lowering.context import INT32, Array, DeclinedError, Lower, NodeContext, Order
from mace_hexagon.lowering.infinities import Infinities, decline_infinite_results, within_half
from mace_hexagon.lowering.packaged import Table
from mace_hexagon.lowering.patterns import Pattern, find_patterns
from mace_hexagon.qnn.types import DataType, TensorKind

MAX_RANK = 5
MAX_LONG_RANK = 4
"""Of int64."""


@dataclass(frozen=True, slots=True)
class Located:
    """A value inside the QNN graph."""

    tensor: QTensor
    order: Order


@dataclass
class Outcome:
    """What became of the nodes of a view.

    Attributes:
        clusters: quantized operators that were lowered whole.
        single: nodes that were lowered on their own.
        declined: the others, with reasons.
        spare: QuantizeLinear and DequantizeLinear nodes of clusters that could be lowered without their operator,
            should that run elsewhere.
    """

    clusters: list[Cluster] = field(default_factory=list)
    single: list[Node] = field(default_factory=list)
    declined: dict[Node, str] = field(default_factory=dict)
    spare: list[Node] = field(default_factory=list)


Check = Callable[[QOp], "str | None"]


class Lowering:
    """One pass over a view.

    Attributes:
        ops: the QNN graph so far.
        inputs, outputs: its application tensors, in the view's order (`finish` makes the outputs).
    """

    def __init__(
        self, view: GraphView, table: Table, check: Check, *, claims_only: bool = False, half: bool = False
    ) -> None:
        """``check`` says why the library does not take an operation; ``claims_only`` tolerates declined nodes;
        ``half``: real numbers are held in float16, which has no infinities there."""
        self.view = view
        self.ops: list[QOp] = []
        self.inputs: list[QTensor] = []
        self.outputs: list[QTensor] = []
        self._table = table
        self._check = check
        self._claims_only = claims_only
        self.half = half
        self.infinities = Infinities(view)
        self._lowered: Node | None = None
        self._located: dict[Value, tuple[Located, ...]] = {}
        self._constants: dict[Any, QTensor] = {}
        self._names: set[str] = set()
        self._deferred: dict[Value, Node] = {}
        self._nodes = set(view.nodes)
        self._makers = {value: node for node in view.nodes for value in node.outputs if value is not None}
        self._done: set[Node] = set()
        self._source: tuple[str, ...] = ()
        self._materialised: dict[Node, None] = {}
        self._folded: list[Node] = []

    # --- the pass -------------------------------------------------------------------------------------------------

    def run(self) -> Outcome:
        """Lower all nodes; those that cannot be are declined, and their results become inputs."""
        outcome = Outcome()
        clusters, patterns = find_clusters(self.view), find_patterns(self.view)
        waiting = {node for last, pattern in patterns.items() for node in pattern.nodes if node is not last}
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
            if cluster is not None and self._attempt(node, cluster) is None:
                outcome.clusters.append(cluster)
                self._done.update(cluster.nodes)
                continue
            if node in waiting:
                continue
            self._lower(node, patterns.get(node), outcome)
        outcome.single += self._folded
        if self.half and self._claims_only:
            decline_infinite_results(self, outcome)
        self._settle_outputs(outcome)
        self._settle_dequantizers(outcome)
        if self._claims_only:
            converters = dict.fromkeys(
                node for cluster in outcome.clusters for node in (*cluster.dequantizers, *cluster.quantizers)
            )
            outcome.spare = [node for node in converters if self._stands_alone(node)]
        return outcome

    def _lower(self, node: Node, pattern: Pattern | None, outcome: Outcome) -> None:
        """Lower a node, or the pattern that ends with it: as one operation if the library takes it, else in parts."""
        if pattern is not None and self._attempt(node, None, pattern.lower) is None:
            outcome.single += pattern.nodes
            return
        for part in pattern.nodes if pattern is not None else (node,):
            reason = self._attempt(part, None)
            if reason is None:
                outcome.single.append(part)
            else:
                outcome.declined[part] = reason

    def _attempt(self, node: Node, cluster: Cluster | None, lower: Lower | None = None) -> str | None:
        """Lower a node (or the cluster around it); on failure everything is as before and the reason returned."""
        ops, folded, located, done = len(self.ops), len(self._folded), dict(self._located), set(self._done)
        materialised = dict(self._materialised)
        lower = lower or self._table.find(node.domain, node.op_type)
        if lower is None:
            return f"the Hexagon provider has no translation of {node.qualified_op} to QNN"
        self._source, self._lowered = node.source, node
        try:
            lower(NodeContext(self, node, cluster))
        except DeclinedError as error:
            del self.ops[ops:], self._folded[folded:]
            self._located, self._done, self._materialised = located, done, materialised
            return str(error)
        return None

    def _defer(self, node: Node, outcome: Outcome) -> None:
        stored, result = node.inputs[0], node.outputs[0]
        if stored is None or result is None or node_encoding(self.view, node) is None:
            outcome.declined[node] = "its scale or zero point is not constant"
            return
        self._deferred[result] = node

    def _stands_alone(self, node: Node) -> bool:
        """Whether the library takes a QuantizeLinear or DequantizeLinear by itself."""
        source, result = node.inputs[0], node.outputs[0]
        assert source is not None and result is not None
        if self.array(result) is not None:
            return True
        quantizes = node.op_type == "QuantizeLinear"
        found = node_encoding(self.view, node)
        encoding = None if found is None else to_encoding(found)
        if encoding is None or encoding.axis is not None:
            return False
        operand = self.new_tensor(source, encoding=None if quantizes else encoding)
        target = self.new_tensor(result, encoding=encoding if quantizes else None)
        return self._check(QOp(node.op_type.removesuffix("Linear"), node.name, [operand], [target])) is None

    def _settle_dequantizers(self, outcome: Outcome) -> None:
        used = {node for cluster in outcome.clusters for node in cluster.nodes}
        for node in self._deferred.values():
            if node in self._materialised:
                outcome.single.append(node)
            elif node not in used:
                outcome.declined[node] = "none of the nodes that read it runs on this device"

    def _settle_outputs(self, outcome: Outcome) -> None:
        """Give every result needed outside its natural order; nodes whose result cannot have it are declined."""
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
        if len(shape) > MAX_LONG_RANK and found.dtype in WIDE:
            raise DeclinedError(
                f"'{value.name}' is {found.dtype.label} of {len(shape)} dimensions, on which the library crashes"
            )
        return shape

    def array(self, value: Value | None) -> Array | None:
        """The content of a value if it is constant, dequantized where it comes from constant DequantizeLinear."""
        if value is None:
            return None
        tensor = self.view.constant(value)
        if tensor is not None:
            found: Array = tensor.numpy()
            return found
        node = value.producer
        if node is None or node not in self._nodes or node.op_type != "DequantizeLinear" or node.domain:
            return None
        stored = self.view.constant(node.inputs[0])
        encoding = node_encoding(self.view, node)
        if stored is None or encoding is None or encoding.block_size:
            return None
        self._materialised[node] = None
        codes = stored.numpy()
        scale, zero = encoding.scale.reshape(-1), encoding.zero_point.reshape(-1)
        if encoding.axis is not None:
            along = [1] * codes.ndim
            along[encoding.axis] = -1
            scale, zero = scale.reshape(along), zero.reshape(along)
        reals = (codes.astype(np.int32) - zero.astype(np.int32)) * scale
        result: Array = reals.astype(self.dtype(value).numpy)
        return result

    def constant(self, array: Array, name: str, encoding: Encoding | None = None, data_type: DataType | None = None
    ) -> QTensor:  # fmt: skip
        """A static tensor."""
        if array.dtype.kind in "iu" and data_type is None:
            if array.dtype.itemsize == 8 and array.size and (array.min() < INT32.min or array.max() > INT32.max):
                raise DeclinedError(f"'{name}' holds 64-bit integers beyond 32 bits, which QNN does not compute with")
            array = array.astype(np.int32)
        if self.half and data_type is None and array.dtype.kind == "f":
            array = within_half(self, array, name, self._lowered)
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

    def order_of(self, value: Value) -> Order:
        """The order a value is there in; natural for constants."""
        if self.array(value) is not None:
            return tuple(range(len(self.shape(value))))
        return self.located(value).order

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
        found = fixed_type(dtype) if encoding is not None else held_type(dtype)
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
        self.append(op)

    def append(self, op: QOp) -> None:
        """Append an operation the library takes, see `add`."""
        reason = self._check(op)
        if reason is not None:
            shapes = ", ".join(f"{t.data_type.name.lower()}{list(t.shape)}" for t in op.inputs)
            raise DeclinedError(f"QNN does not take {op.type} on {shapes}: {reason}")
        self.ops.append(op)

    def maker(self, value: Value) -> Node | None:
        """The node of the view that makes ``value``: its producer may be what the node stands for.

        It may still run elsewhere, and then the value comes as an input.
        """
        return self._makers.get(value)

    def mark_folded(self, node: Node) -> None:
        """``node`` was lowered together with an earlier one."""
        self._done.add(node)
        self._folded.append(node)

    # --- inside ---------------------------------------------------------------------------------------------------

    def _like(self, source: QTensor, name: str, shape: tuple[int, ...]) -> QTensor:
        if source.encoding is not None and source.encoding.axis is not None:
            raise DeclinedError(f"'{name}' is quantized per channel, and only weights may be")
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
        encoding, found = None, held_type(dtype)
        quantized = self.view.encoding(value)
        if quantized is not None and quantized.axis is None:
            encoding = to_encoding(quantized)
            found = fixed_type(dtype) or found
        if found is None:
            raise DeclinedError(f"'{value.name}' is {dtype.label}, which QNN does not have")
        natural = tuple(range(len(shape)))
        if encoding is None and dtype in INTEGERS:
            tensor, inner = enter(self, value.name, dtype, shape or (1,))
        else:
            tensor = inner = QTensor(self.unique(value.name), found, shape or (1,), TensorKind.APP_WRITE, encoding)
            if self.half and encoding is None and dtype.is_float:
                tensor.content = Content.MASK if self.infinities.takes(value) else Content.FINITE
        self._located[value] = (Located(inner, natural),)
        return tensor

    def _output(self, value: Value) -> QTensor:
        """The application tensor of a result."""
        tensor = self.tensor(value)
        dtype = self.dtype(value)
        if tensor.encoding is None and tensor.data_type is DataType.INT_32 and dtype not in (DType.INT32, DType.UINT32):
            return leave(self, value.name, dtype, tensor)
        content = Content.FINITE if self.half and tensor.encoding is None and dtype.is_float else Content.ANY
        if tensor.kind is not TensorKind.NATIVE:  # an input, a constant, or another output already
            copy = QTensor(
                self.unique(value.name), tensor.data_type, tensor.shape, TensorKind.APP_READ, tensor.encoding,
                content=content
            )  # fmt: skip
            self.add("Reshape", [tensor], [copy])
            return copy
        tensor.kind, tensor.content = TensorKind.APP_READ, content
        return tensor

    def _rounded(self, codes: QTensor) -> QTensor:
        """``codes`` where nobody else computes them: the library drops a Quantize before a Dequantize, and with it the
        rounding and the limits, if no operation is between."""
        if not any(op.type == "Quantize" and codes in op.outputs for op in self.ops):
            return codes
        lowest = np.iinfo(CODES[codes.data_type]).min
        limit = np.full((1,) * len(codes.shape), lowest, CODES[codes.data_type])
        held = self.constant(limit, f"{codes.name}.lowest", codes.encoding, codes.data_type)
        result = self._like(codes, f"{codes.name}.rounded", codes.shape)
        self.add("ElementWiseMaximum", [codes, held], [result])
        return result

    def _dequantize(self, value: Value) -> None:
        node = self._deferred[value]
        stored = node.inputs[0]
        assert stored is not None
        encoding = node_encoding(self.view, node)
        place = self.located(stored)
        wanted = None if encoding is None else to_encoding(encoding)
        if place.tensor.encoding is None or not place.tensor.encoding.equals(wanted):
            raise DeclinedError(f"'{stored.name}' is quantized per channel or in two ways, which QNN does not unpack")
        result = self.new_tensor(value, place.order)
        self.add("Dequantize", [self._rounded(place.tensor)], [result])
        self._located[value] = (Located(result, place.order),)
        self._materialised[node] = None
