"""A model with the inputs and outputs that a deployment file gives it: which tensors, in which layout, type and name.

The file may begin and end the model at any of its tensors.  Shapes of four dimensions are in NHWC where nothing else is
said, whatever the framework: a model whose own layout is NCHW then gets a Transpose at its border.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from mace_core.deployment.schema import GraphKeys
from mace_core.deployment.values import nearest
from mace_core.deployment.yaml_tree import ConfigError
from mace_core.errors import ModelError, shorten
from mace_core.graph import Attribute, AttributeKind, Graph, Node, Value
from mace_core.graph.copying import copy_graph
from mace_core.graph.kept import STATE_KEY, KeptState, keep_state, kept_state
from mace_core.graph.names import free_name
from mace_core.operators.resolver import resolve
from mace_core.quantization.editing import Editor
from mace_core.quantization.prepare import inferred_types
from mace_core.scheduler.planning.stages import node_reads
from mace_core.tensor import DType, Shape, TensorType, ValueType
from mace_core.tensor.types import format_shape

TO_CHANNELS_FIRST = (0, 3, 1, 2)
TO_CHANNELS_LAST = (0, 2, 3, 1)

Place: TypeAlias = Callable[[str], str]
"""Where a key of a graph is in its file, for messages."""

_MOST_NAMES = 20_000
"""Looked through for what was probably meant."""

CHANNELS_FIRST = frozenset({"onnx", "pytorch"})
"""Platforms whose models have pictures in NCHW."""


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output of the converted model.

    Attributes:
        tensor: its name in the model that was given.
        name: its name in the converted model.
        shape, dtype: what the converted model takes or gives.
        own_shape, own_dtype: what the tensor itself is.
        order: the axes of the tensor itself in those of ``shape`` (an input), or the other way round (an output);
            empty where they are the same.
        start: what an input is fed in the first run that the model itself feeds in the next ones: state, which the
            deployment file does not name.
        is_state: whether it is the input or the output of such a state.
    """

    tensor: str
    name: str
    shape: tuple[int, ...]
    own_shape: tuple[int, ...]
    dtype: DType
    own_dtype: DType
    order: tuple[int, ...] = ()
    start: npt.NDArray[Any] | None = None
    is_state: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether the tensor itself is the port."""
        return not self.order and self.shape == self.own_shape and self.dtype is self.own_dtype


@dataclass(slots=True)
class Part:
    """What is converted of a model.

    Attributes:
        graph: between the tensors named, with their own names, layouts and types; shapes of inputs are numbers.
        inputs, outputs: what the converted model has instead; those that are state come last.
        notes: what should be told.
    """

    graph: Graph
    inputs: list[Port]
    outputs: list[Port]
    notes: list[str] = field(default_factory=list)

    @property
    def fed(self) -> list[Port]:
        """The inputs that are fed: all but state."""
        return [port for port in self.inputs if not port.is_state]

    @property
    def given(self) -> list[Port]:
        """The outputs that are no state."""
        return [port for port in self.outputs if not port.is_state]

    def wrapped(self, graph: Graph) -> Graph:
        """``graph``, a variant of this part, with the ports in place of its own inputs and outputs; it is changed."""
        editor = Editor(graph)
        before = [
            node for port, value in zip(self.inputs, graph.inputs, strict=True) for node in _enter(editor, port, value)
        ]
        graph.inputs = [_first(value, before) for value in graph.inputs]
        after: list[Node] = []
        graph.outputs = [
            _leave(editor, port, value, after) for port, value in zip(self.outputs, graph.outputs, strict=True)
        ]
        graph.nodes = [*before, *graph.nodes, *after]
        _rename(graph, self.inputs, self.outputs)
        self._keep_state(graph)
        return graph

    def _keep_state(self, graph: Graph) -> None:
        """Note the state that the part keeps by the names, and in the layout, of the ports."""
        inputs, outputs = {p.tensor: p for p in self.inputs}, {p.tensor: p for p in self.outputs}
        states = {}
        for name, state in kept_state(self.graph).items():
            into, out = inputs[name], outputs[state.output]
            start = state.start
            if start is not None:
                start = (start.transpose(np.argsort(into.order)) if into.order else start).astype(into.dtype.numpy)
            states[into.name] = KeptState(out.name, start)
        graph.metadata.pop(STATE_KEY, None)
        if states:
            keep_state(graph, states)


def cut(model: Graph, keys: GraphKeys, platform: str, place: Place, label: str) -> Part:
    """The part of a model that a deployment file names, and what its borders are to be.

    State that the model keeps from run to run is no input or output of the file: what the part needs of it goes along,
    unless the file names it.

    Args:
        model: as it was imported; it is not changed.
        place: of a key of the graph in the file, for messages.
        label: of the model.

    Raises:
        ConfigError: for tensors that the model does not have, and shapes or types that do not fit it.
    """
    graph, _ = copy_graph(model)
    by_name = _values(graph)
    notes: list[str] = []
    inputs = [_named(graph, by_name, name, place, "input_tensors", label) for name in keys.input_tensors]
    outputs = [_named(graph, by_name, name, place, "output_tensors", label) for name in keys.output_tensors]
    states = _needed_states(graph, by_name, inputs, outputs)
    types = _types(graph, [*inputs, *outputs])
    before = _Borders("input", keys, platform, place("input_shapes"), notes)
    ports = [before.port(value, types, number) for number, value in enumerate(inputs)]
    entering, leaving = [by_name[name] for name in states], [by_name[state.output] for state in states.values()]
    ports += [state_port(value, states[value.name]) for value in entering]
    inputs += entering
    _isolate(graph, inputs, [*outputs, *leaving], place("input_tensors"), label)
    for value, port in zip(inputs, ports, strict=True):
        value.type = TensorType(port.own_dtype, port.own_shape)
    try:
        resolved = resolve(graph, {value: value.type for value in inputs if value.type is not None}).types
    except ModelError as error:
        raise ConfigError(f"{place('input_shapes')}: input_shapes do not fit the model: {error}") from None
    behind = _Borders("output", keys, platform, place("output_shapes"), notes)
    known = {**types, **resolved}
    made = [behind.port(value, known, number) for number, value in enumerate(outputs)]
    made += [
        replace(port, tensor=value.name, name=value.name, start=None)
        for port, value in zip(ports[len(ports) - len(states) :], leaving, strict=True)
    ]
    outputs += leaving
    for value, port in zip(outputs, made, strict=True):
        value.type = TensorType(port.own_dtype, port.own_shape)
    _settle_state(model, graph, notes, place)
    return Part(graph, ports, made, notes)


def _settle_state(model: Graph, part: Graph, notes: list[str], place: Place) -> None:
    """Let a part keep the state of the model whose inputs and outputs it has."""
    states = kept_state(model)
    inputs, outputs = {value.name for value in part.inputs}, {value.name for value in part.outputs}
    for name, state in list(states.items()):
        if name in inputs and state.output not in outputs:
            notes.append(
                f"{place('output_tensors')}: the state '{name}' is not kept from run to run, since '{state.output}', "
                "which feeds it, is not among output_tensors"
            )
        if name not in inputs or state.output not in outputs:
            del states[name]
    part.metadata.pop(STATE_KEY, None)
    if states:
        keep_state(part, states)


def state_port(value: Value, state: KeptState) -> Port:
    """The input of a state.

    Raises:
        ConfigError: if its sizes are free.
    """
    type = value.type
    if not isinstance(type, TensorType) or not type.is_concrete:
        raise ConfigError(f"the state '{shorten(value.name)}' is {type}, and a deployment has sizes alone; name it")
    shape = type.concrete_shape
    start = np.zeros(shape, type.dtype.numpy) if state.start is None else state.start
    return Port(value.name, value.name, shape, shape, type.dtype, type.dtype, start=start, is_state=True)


def _needed_states(
    graph: Graph, by_name: Mapping[str, Value], inputs: Sequence[Value], outputs: Sequence[Value]
) -> dict[str, KeptState]:
    """The state that a part takes along, by the names of its inputs."""
    named = {value.name for value in (*inputs, *outputs)}
    free = {
        name: state
        for name, state in kept_state(graph).items()
        if name not in named and state.output not in named and state.output in by_name
    }
    found: dict[str, KeptState] = {}
    wanted = list(outputs)
    while free:
        needed = {value.name for value in _needed(graph, inputs, wanted)[1]}
        more = {name: state for name, state in free.items() if name in needed and name not in found}
        if not more:
            break
        found |= more
        wanted += [by_name[state.output] for state in more.values()]
    return found


def _values(graph: Graph) -> dict[str, Value]:
    found = {value.name: value for value in graph.initializers.values()}
    found |= {value.name: value for value in graph.inputs}
    return found | {value.name: value for node in graph.nodes for value in node.outputs if value is not None}


def _named(graph: Graph, by_name: Mapping[str, Value], name: str, place: Place, key: str, label: str) -> Value:
    """A tensor; TensorFlow's ``:0`` may be there or not."""
    for spelling in (name, name.removesuffix(":0"), f"{name}:0"):
        if spelling in by_name:
            return by_name[spelling]
    near = nearest(name, list(by_name)[:_MOST_NAMES])
    real = next((each for each in by_name if each.lower() == near), "") if near else ""
    side = graph.inputs if key == "input_tensors" else graph.outputs
    own = ", ".join(f"'{shorten(value.name, 60)}'" for value in side[:4])
    meant = f"; did you mean '{shorten(real)}'?" if real else f"; its own {key.partition('_')[0]}s are {own}"
    raise ConfigError(f"{place(key)}: {label} has no tensor '{shorten(name)}' ({key}){meant}")


def _types(graph: Graph, values: Sequence[Value]) -> dict[Value, ValueType]:
    known = {value: value.type for value in values if value.type is not None}
    if len(known) == len(set(values)):
        return known
    return {**inferred_types(graph), **known}


def _isolate(graph: Graph, inputs: Sequence[Value], outputs: Sequence[Value], place: str, label: str) -> None:
    """Reduce a graph to what lies between some of its values."""
    nodes, missing = _needed(graph, inputs, outputs)
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise ConfigError(
            f"{place}: the outputs also need the input '{shorten(missing[0].name)}: {missing[0].type}'{more} of {label}"
            "; add it to input_tensors"
        )
    graph.nodes = nodes
    kept = set(graph.nodes)
    for value in inputs:
        if value.producer is not None and value.producer not in kept:
            value.producer = None
        elif value.producer is not None:  # it makes another output too: the input is a value of its own
            _detach(graph, value)
        value.constant = None
        graph.initializers.pop(value.name, None)
    graph.inputs, graph.outputs, graph.defaults = list(inputs), list(outputs), {}
    Editor(graph).sweep()


def _needed(graph: Graph, inputs: Sequence[Value], outputs: Sequence[Value]) -> tuple[list[Node], list[Value]]:
    """The nodes between some values, in order, and the inputs of the graph that they want besides."""
    given, wanted, nodes = set(inputs), set(outputs) - set(inputs), []
    for node in reversed(graph.nodes):
        if any(value in wanted for value in node.outputs if value is not None):
            nodes.append(node)
            wanted.update(value for value in node_reads(node) if value not in given)
    return nodes[::-1], [value for value in graph.inputs if value in wanted]


def _detach(graph: Graph, value: Value) -> None:
    node = value.producer
    assert node is not None
    unread = Value(f"{value.name}_unread", value.type)
    node.outputs = [unread if output is value else output for output in node.outputs]
    unread.producer, value.producer = node, None


class _Borders:
    """Makes the ports of one side of a model."""

    def __init__(self, side: str, keys: GraphKeys, platform: str, place: str, notes: list[str]) -> None:
        """
        Args:
            side: "input" or "output".
            keys: what the file says.
            platform: that the model is of.
            place: of its shapes in the file, for messages.
            notes: what should be told is added.
        """
        self._side = side
        self._platform = platform
        self._place = place
        self._notes = notes
        self._shapes = keys.input_shapes if side == "input" else keys.output_shapes
        self._forms, self._elements, self._names = keys.formats(side), keys.elements(side), keys.aliases(side)

    def port(self, value: Value, types: Mapping[Value, ValueType], number: int) -> Port:
        """The port of a tensor, which is input or output ``number`` of the file.

        Raises:
            ConfigError: if it is no tensor, or of another shape than the file says.
        """
        own = types.get(value)
        if not isinstance(own, TensorType):
            what = "its type is not known" if own is None else f"it is {own}"
            raise ConfigError(f"{self._place}: the {self._side} '{value.name}' is no tensor ({what})")
        shape, form, name = self._shapes[number], self._forms[number], self._names[number]
        dtype = _dtype(self._elements[number], own.dtype)
        orders = _orders(shape, form, self._platform, TO_CHANNELS_FIRST)
        for order in orders:
            turned = _turned(shape, order)
            if _fits(turned, own.shape):
                if order != orders[0]:
                    self._tell_layout(value.name, shape, form, order)
                if self._side == "output":
                    if not own.is_concrete:
                        self._tell(f"the shape of '{value.name}' is known only in a run; {_text(shape)} is believed")
                    order = TO_CHANNELS_LAST if order == TO_CHANNELS_FIRST else TO_CHANNELS_FIRST if order else ()
                return Port(value.name, name, shape, turned, dtype, own.dtype, order)
        if self._side == "output" and own.is_concrete and own.size == math.prod(shape):
            given = f"which the model gives as {format_shape(own.shape)}: reshaped"
            self._tell(f"output_shapes says {_text(shape)} for '{value.name}', {given}")
            return Port(value.name, name, shape, own.concrete_shape, dtype, own.dtype)
        raise ConfigError(
            f"{self._place}: {self._side}_shapes says {_text(shape)} for '{shorten(value.name)}', and the model "
            f"{self._expected(own, form)}"
        )

    def _expected(self, own: TensorType, form: str) -> str:
        shape = format_shape(own.shape)
        if self._side == "output":
            return f"gives {shape}"
        if own.shape is not None and len(own.shape) == 4 and self._platform in CHANNELS_FIRST and form == "NHWC":
            shape += f", which is {format_shape(tuple(own.shape[axis] for axis in TO_CHANNELS_LAST))} in NHWC"
        return f"takes {shape}"

    def _tell(self, text: str) -> None:
        self._notes.append(f"{self._place}: {text}")

    def _tell_layout(self, name: str, shape: Sequence[int], form: str, order: Sequence[int]) -> None:
        read = "in the model's own layout" if not order else "in the other layout"
        self._tell(
            f"{self._side}_shapes says {_text(shape)} for '{shorten(name)}', which as {form} does not fit the model; "
            f"read {read} ({self._side}_data_formats says which)"
        )


def _orders(shape: Sequence[int], form: str, platform: str, turned: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """Ways to read a shape, the one that the file means first: axes in the model's order, () for as they are."""
    if len(shape) != 4 or form not in ("NHWC", "NCHW"):
        return ((),)
    order = turned if form == "NHWC" else TO_CHANNELS_LAST
    is_native = (form == "NCHW") == (platform in CHANNELS_FIRST)
    return ((), order) if is_native else (order, ())


def _turned(shape: Sequence[int], order: Sequence[int]) -> tuple[int, ...]:
    return tuple(shape[axis] for axis in order) if order else tuple(shape)


def _fits(shape: Sequence[int], own: Shape | None) -> bool:
    if own is None:
        return True
    return len(shape) == len(own) and all(
        not isinstance(size, int) or size == given for given, size in zip(shape, own, strict=True)
    )


def _dtype(word: str, own: DType) -> DType:
    return own if not word else DType[word.upper()]


def _text(shape: Sequence[int]) -> str:
    return ",".join(map(str, shape)) or "no dimensions"


def _enter(editor: Editor, port: Port, value: Value) -> list[Node]:
    """Nodes that make ``value`` of what the converted model is fed."""
    if port.is_plain:
        return []
    nodes: list[Node] = []
    fed = editor.value(f"{value.name}_fed", TensorType(port.dtype, port.shape))
    current = fed
    if port.dtype is not port.own_dtype:
        cast = value if not port.order else editor.value(f"{value.name}_cast", TensorType(port.own_dtype, port.shape))
        nodes.append(_cast(editor, current, cast, port.own_dtype))
        current = cast
    if port.order:
        nodes.append(_transpose(editor, current, value, port.order))
    return nodes


def _first(value: Value, nodes: Sequence[Node]) -> Value:
    """What the nodes before a model make ``value`` of."""
    while value.producer is not None and value.producer in nodes:
        source = value.producer.inputs[0]
        assert source is not None
        value = source
    return value


def _leave(editor: Editor, port: Port, value: Value, nodes: list[Node]) -> Value:
    """What the converted model gives for ``value``."""
    current = value
    if port.order:
        turned = editor.value(f"{value.name}_turned", TensorType(port.own_dtype, port.shape))
        nodes.append(_transpose(editor, current, turned, port.order))
        current = turned
    elif port.shape != port.own_shape:
        shaped = editor.value(f"{value.name}_shaped", TensorType(port.own_dtype, port.shape))
        target = editor.constant(f"{value.name}_shape", np.array(port.shape, np.int64))
        nodes.append(editor.node("Reshape", [current, target], [shaped], name=f"{value.name}_reshape"))
        current = shaped
    if port.dtype is not port.own_dtype:
        cast = editor.value(f"{value.name}_given", TensorType(port.dtype, port.shape))
        nodes.append(_cast(editor, current, cast, port.dtype))
        current = cast
    return current


def _transpose(editor: Editor, source: Value, result: Value, order: tuple[int, ...]) -> Node:
    attributes = {"perm": Attribute(AttributeKind.INTS, order)}
    return editor.node("Transpose", [source], [result], name=f"{result.name}_transpose", attributes=attributes)


def _cast(editor: Editor, source: Value, result: Value, dtype: DType) -> Node:
    attributes = {"to": Attribute(AttributeKind.INT, dtype.value)}
    return editor.node("Cast", [source], [result], name=f"{result.name}_cast", attributes=attributes)


def _rename(graph: Graph, inputs: Sequence[Port], outputs: Sequence[Port]) -> None:
    """Call inputs and outputs as the ports; whatever else has one of these names gets another."""
    ends: dict[Value, str] = {}
    for port, value in zip(inputs, graph.inputs, strict=True):
        ends[value] = port.name
    identities: list[Node] = []
    for number, (port, value) in enumerate(zip(outputs, graph.outputs, strict=True)):
        if value in ends and ends[value] != port.name:  # an input given back, or one value twice
            own = Value(port.name, value.type)
            identities.append(Node("Identity", [value], [own], name=f"{port.name}_identity"))
            graph.outputs[number] = own
            value = own
        ends[value] = port.name
    wanted, others = set(ends.values()), _all_values(graph)
    taken = wanted | {value.name for value in others}
    for other in others:
        if other not in ends and other.name in wanted:
            other.name = free_name(f"{other.name}_inner", taken)
    for value, name in ends.items():
        value.name = name
    graph.initializers = {value.name: value for value in graph.initializers.values()}
    graph.nodes += identities


def _all_values(graph: Graph) -> list[Value]:
    found = dict.fromkeys((*graph.inputs, *graph.initializers.values()))
    for node in graph.nodes:
        found.update(dict.fromkeys(value for value in node.outputs if value is not None))
        for body in node.subgraphs():
            found.update(dict.fromkeys(_all_values(body)))
    return list(found)
