"""Functions of one quantized number, as tables: whatever becomes of it on the way, there are only 256 results.

Of 16 bits there are 65,536, so a table is made only for values that have about as many elements or more.

Chains of elementwise operators, and diamonds such as ``x * sigmoid(x)``, are followed from the number they begin with,
through numbers that are quantized on the way.  The kernels that would have computed them in a run compute the tables.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from mace_core.graph import Graph, GraphView, Node, Value
from mace_core.native.kernel import load_kernels
from mace_core.native.target import Target, host_target
from mace_core.provider import Bindings, BoundTensor, Buffer
from mace_core.symbolic import hint, is_same
from mace_core.tensor import DType, MemoryKind, Tensor, TensorType
from mace_cpu.plan.subgraph import CpuSubgraph
from mace_cpu.quantized.integer_form import NUMBERS, WORDS, Quantized
from mace_cpu.quantized.rewriting.graph import Rewriting
from mace_cpu.shared.parts.buffers import aligned_empty
from mace_cpu.shared.parts.facts import Settings
from mace_cpu.shared.program.assemble import assemble
from mace_cpu.shared.registry import LOWERINGS, lower

ELEMENTWISE = frozenset(
    {
        "Abs", "Acos", "Acosh", "Add", "Asin", "Asinh", "Atan", "Atanh", "Ceil", "Celu", "Clip", "Cos", "Cosh", "Div",
        "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "Log", "Max", "Min",
        "Mish", "Mul", "Neg", "PRelu", "Pow", "Reciprocal", "Relu", "Round", "Selu", "Sigmoid", "Sign", "Sin", "Sinh",
        "Softplus", "Softsign", "Sqrt", "Sub", "Swish", "Tan", "Tanh", "ThresholdedRelu",
    }
)  # fmt: skip

LEAST_OF_WORDS = 1 << 14
"""Elements of a value of 16 bits from which a table pays that has to be made first."""


@dataclass(slots=True)
class Request:
    """A table that is wanted: ``content`` is the constant of the model, ``results`` is what it is computed as."""

    content: Value
    results: Value


class Tables:
    """The functions of one number that a graph contains, and the tables made of them.

    They are nodes over all numbers of a type at once, every one that there is.
    """

    def __init__(self, rewriting: Rewriting) -> None:
        self._rewriting = rewriting
        self._roots: dict[Value, Value] = {}
        self._stands_for: dict[Value, Value] = {}
        self._nodes: list[Node] = []
        self._inputs: dict[Value, Value] = {}
        self._requests: list[Request] = []
        graph = Graph("tables")
        self._view = GraphView(graph, (), (), (), {}, {}, opset_imports=rewriting.view.opset_imports)

    def root(self, value: Value) -> Value | None:
        """The quantized numbers that ``value`` (floats, or quantized) is a function of, element by element."""
        return self._roots.get(value)

    # --- following ------------------------------------------------------------------------------------------------

    def see_dequantized(self, real: Value) -> None:
        """``real`` is known to stand for quantized numbers."""
        numbers = self._rewriting.quantized[real]
        if numbers.encoding.axis is not None or numbers.encoding.dtype not in NUMBERS:
            return
        if self._rewriting.view.constant(numbers.value) is not None or not self._rewriting.is_concrete(real):
            return
        if numbers.value not in self._roots:
            dtype = numbers.encoding.dtype
            kind = TensorType(dtype, (1 << dtype.bits,))
            self._inputs[numbers.value] = Value(f"table input {len(self._inputs)}", kind)
            self._roots[numbers.value] = numbers.value
            self._stands_for[numbers.value] = self._inputs[numbers.value]
        kind = self._kind(self._roots[numbers.value], DType.FLOAT32)
        found = self._append("DequantizeLinear", [self._stands_for[numbers.value], *self._encoding(numbers)], kind)
        if found is not None:
            self._roots[real], self._stands_for[real] = self._roots[numbers.value], found

    def see(self, node: Node) -> None:
        """Follow what ``node`` computes, where it is elementwise and has one quantized number to begin with."""
        result = node.output(0)
        if node.domain or node.op_type not in ELEMENTWISE or result is None or len(node.outputs) != 1:
            return
        roots = {self._roots.get(value) for value in node.inputs if value is not None and not self._is_number(value)}
        root = roots.pop() if len(roots) == 1 else None
        if root is None or self._rewriting.dtype(result) is not DType.FLOAT32:
            return
        if not self._rewriting.is_concrete(result) or not self._have_one_shape(result, root):
            return
        inputs = [None if value is None else self._stand_in(value) for value in node.inputs]
        found = self._append(node.op_type, inputs, self._kind(root, DType.FLOAT32), node)
        if found is not None:
            self._roots[result], self._stands_for[result] = root, found

    def _is_number(self, value: Value) -> bool:
        content = self._rewriting.view.constant(value)
        if content is not None:
            return content.size == 1 and content.dtype.is_float
        return self._rewriting.number(value) is not None

    def _have_one_shape(self, first: Value, second: Value) -> bool:
        one, other = self._rewriting.shape(first), self._rewriting.shape(second)
        return len(one) == len(other) and all(map(is_same, one, other))

    def _stand_in(self, value: Value) -> Value:
        if value in self._stands_for:
            return self._stands_for[value]
        number = self._rewriting.number(value)
        return Value(value.name, constant=Tensor.from_numpy(np.array(number, np.float32)))

    def _encoding(self, numbers: Quantized) -> tuple[Value, Value]:
        scale, zero = numbers.encoding.scales[0], numbers.encoding.zeros[0]
        return (
            Value("scale", constant=Tensor.from_numpy(np.array(scale, np.float32))),
            Value("zero", constant=Tensor.from_numpy(np.array(zero, numbers.encoding.dtype.numpy))),
        )

    def _append(
        self, op_type: str, inputs: Sequence[Value | None], kind: TensorType, origin: Node | None = None
    ) -> Value | None:
        """The result of another node of functions, None where it cannot be lowered."""
        result = Value(f"table {len(self._nodes)}", kind)
        attributes = None if origin is None else origin.attributes
        node = Node(op_type, inputs, [result], name=f"table {len(self._nodes)}", attributes=attributes)
        lowering = LOWERINGS.find("", op_type)
        if lowering is None or lowering.check(self._view, node) is not None:
            return None
        self._nodes.append(node)
        return result

    def _kind(self, root: Value, dtype: DType) -> TensorType:
        """The type of what is made of all the numbers of a root."""
        found = self._inputs[root].type
        assert isinstance(found, TensorType)
        return TensorType(dtype, found.shape)

    # --- tables ---------------------------------------------------------------------------------------------------

    def request(
        self, real: Value, result: Quantized, bounds: tuple[int | None, int | None], origin: Sequence[Node]
    ) -> str | None:
        """Append the node that looks ``result``, the quantized form of ``real``, up in a table; a reason if it cannot.

        ``bounds``: of the result, in its steps.
        """
        root, dtype = self._roots[real], result.encoding.dtype
        if dtype not in NUMBERS:
            return f"its result is {dtype.label}"
        if self._rewriting.dtype(root) in WORDS and hint(math.prod(self._rewriting.shape(root))) < LEAST_OF_WORDS:
            return f"a table of 16 bits does not pay for fewer than {LEAST_OF_WORDS} numbers"
        kind = self._kind(root, dtype)
        found = self._append("QuantizeLinear", [self._stands_for[real], *self._encoding(result)], kind)
        if found is None:
            return "its numbers cannot be quantized"
        if bounds != (None, None):
            limits = [
                None if bound is None else Value("bound", constant=Tensor.from_numpy(np.array(bound, dtype.numpy)))
                for bound in bounds
            ]
            found = self._append("Clip", [found, *limits], kind)
            if found is None:
                return "its numbers cannot be bounded"
        content = Value(f"{result.value.name}.table", kind)
        reason = self._rewriting.add_table(root, content, result.value, origin)
        if reason is None:
            self._requests.append(Request(content, found))
            self._roots[result.value], self._stands_for[result.value] = root, found
        return reason

    def fill(self, settings: Settings) -> None:
        """Compute the tables that were asked for."""
        if not self._requests:
            return
        view = self._needed()
        for request, content in zip(self._requests, _run(view, settings), strict=True):
            request.content.constant = Tensor.from_numpy(content)

    def _needed(self) -> GraphView:
        outputs = [request.results for request in self._requests]
        wanted: set[Value | None] = set(outputs)
        nodes: list[Node] = []
        for node in reversed(self._nodes):
            if node.outputs[0] in wanted:
                nodes.append(node)
                wanted.update(node.inputs)
        nodes.reverse()
        inputs = [value for value in self._inputs.values() if value in wanted]
        graph = Graph("tables")
        return GraphView(
            graph, nodes, inputs, outputs, {}, {}, name="tables", opset_imports=self._rewriting.view.opset_imports
        )


def _run(view: GraphView, settings: Settings) -> list[npt.NDArray[np.generic]]:
    """The outputs of a view all of whose inputs are every number of their types, in the order of their bits."""
    target = _runnable(settings.target)
    if target is not settings.target:
        settings = replace(settings, target=target, pair_unit=None, byte_tiles=None)
    program = lower(view, replace(settings, threads=1, integers=False))
    kernels = {step.kernel.symbol: step.kernel for step in program.steps.emitted}
    addresses = load_kernels(list(kernels.values()), target)
    compiled = CpuSubgraph(assemble(program), addresses, None, 1, "cpu")
    given = [_every(_numpy(value)) for value in view.inputs]
    made = [np.zeros(view.shape(value), _numpy(value)) for value in view.outputs]
    nbytes = compiled.workspace_bytes
    workspace = _bound(aligned_empty((-(-nbytes // 4),))) if nbytes else None  # none as elsewhere: see `Bindings`
    compiled.new_execution().run(
        Bindings([_bound(array) for array in given], [_bound(array) for array in made], workspace)
    )
    return list(made)


def _runnable(target: Target) -> Target:
    """``target`` where this processor has all of it, else this processor: tables are computed here, whatever for."""
    own = host_target()
    return target if target.architecture == own.architecture and target.features <= own.features else own


def _every(dtype: np.dtype[np.generic]) -> npt.NDArray[np.generic]:
    return np.arange(1 << (8 * dtype.itemsize), dtype=f"u{dtype.itemsize}").view(dtype)


def _numpy(value: Value) -> np.dtype[np.generic]:
    assert isinstance(value.type, TensorType)
    return value.type.dtype.numpy


def _bound(array: npt.NDArray[np.generic]) -> BoundTensor:
    buffer = Buffer(MemoryKind.HOST, array.nbytes, array.ctypes.data, array)
    return BoundTensor(DType.from_numpy(array.dtype), array.shape, buffer)
