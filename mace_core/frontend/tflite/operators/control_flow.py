"""Branches, loops and calls.  Subgraphs read values, and change variables, of the graphs around them."""

from __future__ import annotations

from collections.abc import Sequence

from mace_core.frontend.tflite.description import FileTensor
from mace_core.frontend.tflite.operation import Operation
from mace_core.frontend.tflite.place import Place
from mace_core.frontend.tflite.registry import converter
from mace_core.frontend.tflite.types import is_handle
from mace_core.graph import Value
from mace_core.tensor import DType, TensorType


@converter("IF", options="IfOptions")
def branch(op: Operation) -> None:
    """Inputs: the condition, then what both subgraphs are given."""
    places: list[Place] = []
    for option in ("ThenSubgraphIndex", "ElseSubgraphIndex"):
        place = op.place.nested(op.option(option), op)
        _give(op, place, range(1, op.count))
        place.fill()
        places.append(place)
    changed = sorted({key for place in places for key in place.state})
    for place in places:
        values = [place.output(tensor) for tensor in _results(op, place)]
        _end(op.within(place), [*values, *(place.current(key, op) for key in changed)])
    condition = op.emit("Reshape", [op.stored(0), op.number([])])
    attributes = {"then_branch": places[0].graph, "else_branch": places[1].graph}
    count = len(op.file.outputs)
    values = op.several("If", [condition], count + len(changed), attributes)
    for index in range(count):
        op.keep(values[index], index)
    for key, value in zip(changed, values[count:], strict=True):
        op.place.change(key, value, op)


@converter("WHILE", options="WhileOptions")
@converter("STABLEHLO_WHILE", options="StablehloWhileOptions")
def loop(op: Operation) -> None:
    """The condition is a subgraph of the same values as the body."""
    count = op.count
    if len(op.file.outputs) != count:
        raise op.error(f"has {count} inputs and {len(op.file.outputs)} outputs")
    test, turn = op.option("CondSubgraphIndex"), op.option("BodySubgraphIndex")
    keys = op.place.changed_keys((test, turn), op)
    numbers = [index for index in range(count) if not is_handle(op.tensor(index))]
    first = op.place.inlined(test, op)  # before the first turn, the condition is computed around the loop
    _give(op, first, range(count))
    first.fill()
    begun = _condition(op, first)
    start = [op.stored(index) for index in numbers] + [op.place.current(key, op) for key in keys]

    body = op.place.nested(turn, op)
    inside = op.within(body)
    for name, type in (("turn", TensorType(DType.INT64, ())), ("condition", TensorType(DType.BOOL, ()))):
        value = body.made(f"{op.name}/{name}")
        value.type = type
        body.graph.inputs.append(value)
    body.expect(count, op)
    for index in range(count):
        tensor = body.tensor(body.file.inputs[index])
        if index in numbers:
            body.add_input(tensor)
        else:
            body.handles[tensor.index] = op.place.handle(op.tensor(index).index, op)
    for key, value in zip(keys, start[len(numbers) :], strict=True):
        body.state[key] = body.made(f"{op.name}/state")
        body.state[key].type = value.type
        body.graph.inputs.append(body.state[key])
    body.fill()
    results = _results(op, body)
    again = body.inlined(test, op)
    again.expect(count, op)
    for index in range(count):
        tensor = again.tensor(again.file.inputs[index])
        if index in numbers:
            again.bind(tensor, body.output(results[index]))
        else:
            again.handles[tensor.index] = op.place.handle(op.tensor(index).index, op)
    again.fill()
    if set(body.state) != set(keys):
        raise op.unsupported("keeps state of its own inside a loop")
    carried = [body.output(results[index]) for index in numbers] + [body.state[key] for key in keys]
    _end(inside, [_condition(inside, again), *carried])

    values = op.several("Loop", [None, begun, *start], len(start), {"body": body.graph})
    for index, value in zip(numbers, values[: len(numbers)], strict=True):
        op.keep(value, index)
    for key, value in zip(keys, values[len(numbers) :], strict=True):
        op.place.change(key, value, op)


@converter("CALL", options="CallOptions")
def call(op: Operation) -> None:
    _call(op, op.option("Subgraph"))


@converter("STABLEHLO_COMPOSITE", options="StableHLOCompositeOptions")
def composite(op: Operation) -> None:
    """What an operator that the writer has a name for consists of."""
    _call(op, op.option("DecompositionSubgraphIndex"))


def _call(op: Operation, index: int) -> None:
    place = op.place.inlined(index, op)
    _give(op, place, range(op.count))
    place.fill()
    for number, tensor in enumerate(_results(op, place)):
        op.keep(op.emit("Identity", [place.output(tensor)]), number)


def _give(op: Operation, place: Place, inputs: range) -> None:
    """Let the inputs of a subgraph be values of the graph around it."""
    place.expect(len(inputs), op)
    for position, index in enumerate(inputs):
        tensor = place.tensor(place.file.inputs[position])
        if op.has(index) and is_handle(op.tensor(index)):
            place.handles[tensor.index] = op.place.handle(op.tensor(index).index, op)
        elif op.has(index):
            place.bind(tensor, op.stored(index))


def _results(op: Operation, place: Place) -> list[FileTensor]:
    """The tensors that a subgraph gives."""
    if len(place.file.outputs) != len(op.file.outputs):
        raise op.error(f"has {len(op.file.outputs)} outputs, and the subgraph it calls has {len(place.file.outputs)}")
    return [place.tensor(number) for number in place.file.outputs]


def _condition(op: Operation, place: Place) -> Value:
    """The one truth value that a condition gives, without dimensions; its nodes go where those of ``op`` do."""
    if len(place.file.outputs) != 1:
        raise op.error(f"has a condition with {len(place.file.outputs)} outputs")
    return op.emit("Reshape", [place.output(place.tensor(place.file.outputs[0])), op.number([])])


def _end(inside: Operation, values: Sequence[Value]) -> None:
    """Let these be the outputs of a nested graph: each a value of its own, computed there."""
    own = set(inside.place.graph.nodes)
    for value in values:
        if value.producer not in own or value in inside.place.graph.outputs:
            type = value.type
            value = inside.emit("Identity", [value])
            value.type = type
        inside.place.graph.outputs.append(value)
