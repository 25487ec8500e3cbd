"""If, Loop, Scan and SequenceMap, run by the core: their bodies are planned on the devices like any graph.

This is native: no onnx.reference is involved.  Where a body is one subgraph on host memory, its turns are one call.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from mace_core.errors import CancelledError, ModelError
from mace_core.graph import Graph, Node, Value
from mace_core.graph.loops import MOST_ENDLESS_TURNS, ends_by_itself
from mace_core.scheduler.context import RunContext
from mace_core.scheduler.host.recurrence import Recurrence, Stack, Turns, truth
from mace_core.scheduler.values import RuntimeValue
from mace_core.tensor import Tensor, TensorType, ValueType

MOST_TURNS = (1 << 63) - 1
"""Of a loop that its condition ends."""


class BodyRunner(Protocol):
    """Runs one nested graph: first its own inputs, then what it captures (`captures`, in order)."""

    captures: Sequence[Value]

    def run(self, values: Sequence[RuntimeValue], context: RunContext) -> list[RuntimeValue]: ...

    def run_turns(self, turns: Turns, context: RunContext) -> None:
        """At least one turn, and as many as can be run without coming back."""

    def output_types(self, values: Sequence[RuntimeValue]) -> list[ValueType | None]: ...

    def give_up_kept(self) -> int:
        """Free what no run is using; how many things."""

    def close(self) -> None: ...


MakeBody = Callable[[Graph], BodyRunner]


class ControlFlow(ABC):
    """A control-flow node made ready.

    Attributes:
        reads: values it needs at run time: its inputs, then captured ones.
        writes: values it computes.
    """

    def __init__(self, node: Node, known: Mapping[Value, Tensor], make_body: MakeBody) -> None:
        self.node = node
        self.writes = [value for value in node.outputs if value is not None]
        self.bodies = {name: make_body(body) for name, body in self._bodies(node, known)}
        reads = dict.fromkeys(value for value in node.inputs if value is not None)
        for body in self.bodies.values():
            reads.update(dict.fromkeys(body.captures))
        self.reads = list(reads)
        self._slot = {value: index for index, value in enumerate(self.reads)}

    def _bodies(self, node: Node, known: Mapping[Value, Tensor]) -> list[tuple[str, Graph]]:
        return [(name, a.value) for name, a in node.attributes.items() if isinstance(a.value, Graph)]

    @abstractmethod
    def run(self, values: Sequence[RuntimeValue], context: RunContext) -> list[RuntimeValue]:
        """``values`` in the order of ``reads``; results in the order of ``writes``."""

    def give_up_kept(self) -> int:
        """Free what of the bodies no run is using; how many things."""
        return sum(body.give_up_kept() for body in self.bodies.values())

    def close(self) -> None:
        """Free the bodies' plans."""
        for body in self.bodies.values():
            body.close()

    def _argument(self, index: int, values: Sequence[RuntimeValue]) -> RuntimeValue:
        """The node's input at ``index``; None where it is left out."""
        value = self.node.input(index)
        return None if value is None else values[self._slot[value]]

    def _captured(self, body: BodyRunner, values: Sequence[RuntimeValue]) -> list[RuntimeValue]:
        return [values[self._slot[value]] for value in body.captures]

    def _only_used(self, results: Sequence[RuntimeValue]) -> list[RuntimeValue]:
        return [result for value, result in zip(self.node.outputs, results, strict=False) if value is not None]

    def _check(self, context: RunContext) -> None:
        if context.cancel.is_set:
            raise CancelledError(f"the run was cancelled in node '{self.node.name}' ({self.node.qualified_op})")


class IfFlow(ControlFlow):
    """One branch or the other; where the condition is known when planning, only that branch is kept."""

    def _bodies(self, node: Node, known: Mapping[Value, Tensor]) -> list[tuple[str, Graph]]:
        condition = _constant(node.input(0), known)
        bodies = super()._bodies(node, known)
        if condition is None:
            return bodies
        chosen = _branch_name(condition.numpy(), node)
        return [(name, body) for name, body in bodies if name == chosen]

    def run(self, values: Sequence[RuntimeValue], context: RunContext) -> list[RuntimeValue]:
        if len(self.bodies) == 1:
            body = next(iter(self.bodies.values()))
        else:
            body = self.bodies[_branch_name(self._argument(0, values), self.node)]
        return self._only_used(body.run(self._captured(body, values), context))


class LoopFlow(ControlFlow):
    """Loop: trip count, condition, carried values, scan outputs."""

    def run(self, values: Sequence[RuntimeValue], context: RunContext) -> list[RuntimeValue]:
        body = self.bodies["body"]
        captured = self._captured(body, values)
        trips_given, condition_given = self._argument(0, values), self._argument(1, values)
        trips = None if trips_given is None else int(np.asarray(trips_given).reshape(-1)[0])
        graph = _body_graph(self.node)
        initial = [self._argument(index, values) for index in range(2, len(self.node.inputs))]
        ends = ends_by_itself(graph)
        going = condition_given is None or truth(condition_given, self.node)
        if going and not ends and (trips is None or trips > MOST_ENDLESS_TURNS):
            described = "without end" if trips is None else f"{trips:,} times"
            raise ModelError(
                f"node '{self.node.name}' (Loop) would turn {described}: its condition never becomes false, and no run "
                f"lasts for more than {MOST_ENDLESS_TURNS:,} turns"
            )
        scans = range(1 + len(initial), len(graph.outputs))
        turns = Turns(
            Recurrence(
                counter=0,
                going=1,
                condition=0 if ends else -1,
                carried=tuple((2 + index, 1 + index) for index in range(len(initial))),
                scans=tuple(scans),
                rows=(),
            ),
            [
                np.zeros(_declared_shape(graph.inputs[0]), np.int64),
                np.full(_declared_shape(graph.inputs[1]), going, np.bool_),
                *initial,
                *captured,
            ],
            [Stack(self.node, None if ends else trips) for _ in scans],
            node=self.node,
            limit=MOST_TURNS if trips is None else trips,
        )
        turns.going = going
        while not turns.is_over:
            self._check(context)
            body.run_turns(turns, context)
        if turns.stacks and not turns.step:
            types = body.output_types(turns.inputs())[1 + len(initial) :]
            return self._only_used([*turns.carried(), *(_empty_scan(type, self.node) for type in types)])
        return self._only_used([*turns.carried(), *(stack.finish() for stack in turns.stacks)])


class ScanFlow(ControlFlow):
    """Scan from opset 9 on: any axis and direction."""

    def run(self, values: Sequence[RuntimeValue], context: RunContext) -> list[RuntimeValue]:
        body = self.bodies["body"]
        node = self.node
        scanned = int(node.attr("num_scan_inputs"))
        states = len(node.inputs) - scanned
        outputs = len(_body_graph(node).outputs) - states
        state = [self._argument(index, values) for index in range(states)]
        in_axes = node.attr("scan_input_axes", (0,) * scanned)
        in_directions = node.attr("scan_input_directions", (0,) * scanned)
        out_axes = node.attr("scan_output_axes", (0,) * outputs)
        out_directions = node.attr("scan_output_directions", (0,) * outputs)
        sources = [
            _along(self._argument(states + i, values), int(in_axes[i]), bool(in_directions[i])) for i in range(scanned)
        ]
        state, scans = self._iterate(body, state, sources, self._captured(body, values), outputs, context)
        stacked = [_unroll(scan, int(out_axes[i]), bool(out_directions[i])) for i, scan in enumerate(scans)]
        return self._only_used([*state, *stacked])

    def _iterate(
        self,
        body: BodyRunner,
        state: list[RuntimeValue],
        sources: Sequence[npt.NDArray[Any]],
        captured: list[RuntimeValue],
        outputs: int,
        context: RunContext,
    ) -> tuple[list[RuntimeValue], list[npt.NDArray[Any]]]:
        """Final state, and the scan outputs stacked along axis 0."""
        lengths = {len(source) for source in sources}
        if len(lengths) != 1:
            raise ModelError(
                f"node '{self.node.name}' (Scan): its scan inputs have different lengths {sorted(lengths)}"
            )
        count = lengths.pop()
        states = len(state)
        slices = [np.zeros(source.shape[1:], source.dtype) for source in sources]
        turns = Turns(
            Recurrence(
                counter=-1,
                going=-1,
                condition=-1,
                carried=tuple((index, index) for index in range(states)),
                scans=tuple(range(states, states + outputs)),
                rows=tuple(range(states, states + len(sources))),
            ),
            [*state, *slices, *captured],
            [Stack(self.node, count) for _ in range(outputs)],
            node=self.node,
            limit=count,
            sources=sources,
        )
        while not turns.is_over:
            self._check(context)
            body.run_turns(turns, context)
        if not count:
            types = body.output_types(turns.values)[states:]
            return state, [_empty_scan(type, self.node) for type in types]
        return turns.carried(), [stack.finish() for stack in turns.stacks]


class BatchedScanFlow(ScanFlow):
    """Scan of opset 8: a batch axis in front, and a length for each row of the batch."""

    def run(self, values: Sequence[RuntimeValue], context: RunContext) -> list[RuntimeValue]:
        body = self.bodies["body"]
        node = self.node
        scanned = int(node.attr("num_scan_inputs"))
        states = len(node.inputs) - 1 - scanned
        outputs = len(_body_graph(node).outputs) - states
        directions = node.attr("directions", (0,) * scanned)
        lengths = self._argument(0, values)
        state = [self._argument(1 + index, values) for index in range(states)]
        sources = [self._argument(1 + states + index, values) for index in range(scanned)]
        captured = self._captured(body, values)
        longest, batch = sources[0].shape[1], sources[0].shape[0]
        rows: list[list[RuntimeValue]] = []
        for row in range(batch):
            length = longest if lengths is None else int(lengths[row])
            parts = [
                source[row, :length][::-1] if directions[i] else source[row, :length]
                for i, source in enumerate(sources)
            ]
            final, scans = self._iterate(body, [s[row] for s in state], parts, captured, outputs, context)
            padded = [np.concatenate([s, np.zeros((longest - length, *s.shape[1:]), s.dtype)]) for s in scans]
            rows.append([*final, *padded])
        if not rows:
            raise ModelError(f"node '{node.name}' (Scan): a batch of size 0 cannot be scanned")
        return self._only_used([np.stack(column) for column in zip(*rows, strict=True)])


class SequenceMapFlow(ControlFlow):
    """SequenceMap: the body for each element; tensors among the further inputs go to every call."""

    def run(self, values: Sequence[RuntimeValue], context: RunContext) -> list[RuntimeValue]:
        body = self.bodies["body"]
        captured = self._captured(body, values)
        given = [self._argument(index, values) for index in range(len(self.node.inputs))]
        results: list[list[RuntimeValue]] = [[] for _ in self.node.outputs]
        for step in range(len(given[0])):
            self._check(context)
            arguments = [value[step] if isinstance(value, list) else value for value in given]
            for collected, item in zip(results, body.run([*arguments, *captured], context), strict=False):
                collected.append(item)
        return self._only_used(results)


def is_control_flow(node: Node) -> bool:
    """Whether the core runs this node itself."""
    return node.domain == "" and node.op_type in ("If", "Loop", "Scan", "SequenceMap")


def make_control_flow(node: Node, known: Mapping[Value, Tensor], make_body: MakeBody, *, opset: int) -> ControlFlow:
    """The control flow of ``node``, one for which :func:`is_control_flow` holds, at an opset of the default domain."""
    kinds: dict[str, type[ControlFlow]] = {
        "If": IfFlow,
        "Loop": LoopFlow,
        "Scan": BatchedScanFlow if opset < 9 else ScanFlow,
        "SequenceMap": SequenceMapFlow,
    }
    return kinds[node.op_type](node, known, make_body)


def _body_graph(node: Node) -> Graph:
    graph = node.attr("body")
    assert isinstance(graph, Graph)
    return graph


def _constant(value: Value | None, known: Mapping[Value, Tensor]) -> Tensor | None:
    if value is None:
        return None
    return value.constant if value.constant is not None else known.get(value)


def _branch_name(condition: RuntimeValue, node: Node) -> str:
    return "then_branch" if truth(condition, node) else "else_branch"


def _declared_shape(value: Value) -> tuple[int, ...]:
    """Some exporters declare the counter and the condition as ``[1]`` instead of scalars."""
    declared = value.type
    if isinstance(declared, TensorType) and declared.shape is not None and len(declared.shape) == 1:
        return (1,)
    return ()


def _along(array: npt.NDArray[Any], axis: int, backwards: bool) -> npt.NDArray[Any]:
    """Slices along ``axis`` come first, in scan order."""
    moved = np.moveaxis(array, axis, 0)
    return moved[::-1] if backwards else moved


def _unroll(stacked: npt.NDArray[Any], axis: int, backwards: bool) -> npt.NDArray[Any]:
    """The reverse of :func:`_along` for a scan output."""
    return np.ascontiguousarray(np.moveaxis(stacked[::-1] if backwards else stacked, 0, axis))


def _empty_scan(type: ValueType | None, node: Node) -> npt.NDArray[Any]:
    """A scan output of no iterations: shape (0, …), unknown dimensions 0."""
    if not isinstance(type, TensorType):
        raise ModelError(
            f"node '{node.name}' ({node.op_type}): the type of a scan output of no iterations is not known"
        )
    dims = [dim if isinstance(dim, int) else 0 for dim in type.shape or ()]
    return np.empty((0, *dims), type.dtype.numpy)
