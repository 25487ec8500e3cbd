"""Subgraphs of devices that compile for each shape, padded to the sizes that these declare (see `Buckets`).

An axis is padded where it may vary, and where every node of the subgraph treats its positions apart.  What is fed is
made longer with copies of its last position, so that no node sees values that it would not see otherwise; the results
are cut.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from mace_core.errors import ModelError
from mace_core.graph import GraphView, Node, Value
from mace_core.provider import Buckets
from mace_core.provider.border import reason_of
from mace_core.scheduler.planning.lanes import Axis, AxisClasses
from mace_core.scheduler.planning.padded_views import Ask, Fitted, PaddedView, Seen, SeenSizes
from mace_core.scheduler.planning.shared import content_word
from mace_core.scheduler.planning.stages import Stage, fragment, node_reads
from mace_core.tensor import Tensor, TensorType, ValueType

_log = logging.getLogger("mace")


class FreeAxes:
    """Which axes of a stage's values have a size that the model leaves free, and what to call them."""

    def __init__(self, stage: Stage) -> None:
        self._classes = AxisClasses(stage.nodes, stage.types, stage.known, stage.graph.opset_imports)
        self._names: dict[Axis, str] = {}
        for value in dict.fromkeys(v for node in stage.nodes for v in (*node.inputs, *node.outputs) if v is not None):
            declared = value.type.shape if isinstance(value.type, TensorType) else None
            for axis, size in enumerate(declared or ()):
                if not isinstance(size, int):
                    self._names.setdefault(self._classes.of((value, axis)), size or name_of((value, axis)))

    def name(self, axis: Axis) -> str | None:
        """The name of an axis that is free; None for others."""
        return self._names.get(self._classes.of(axis))


def name_of(axis: Axis) -> str:
    """What to call an axis without a name of its own."""
    return f"axis {axis[1]} of '{axis[0].name}'"


class RefusedError(Exception):
    """A subgraph is not padded; the message says why."""


@dataclass(slots=True)
class Fit:
    """How one subgraph fits the buckets of its device.

    Attributes:
        stage: where it lies.
        device: the name of the device.
        buckets: what it declares.
        view: the subgraph for the shapes at hand.
        free: the axes that may vary.
        seen: the sizes that it was planned for before.
        ask: asks the device for what it has not compiled yet.
    """

    stage: Stage
    device: str
    buckets: Buckets
    view: GraphView
    free: FreeAxes
    seen: SeenSizes
    ask: Ask
    _classes: AxisClasses = field(init=False)
    _notes: list[str] = field(default_factory=list)

    def run(self) -> Fitted:
        """The view to compile."""
        stage = self.stage
        self._classes = AxisClasses(self.view.nodes, stage.types, stage.known, self.view.opset_imports)
        axes = [axis for value in self.view.inputs for axis in _axes(value, self.view)]
        seen = self.seen.add(self.view.nodes, tuple(map(self._size, axes)))
        names = self._varying(axes, seen)
        wanted = {kind: bucket for kind, name in names.items() if (bucket := self._bucket(kind, name)) is not None}
        if not wanted:
            return Fitted(self.view, tuple(self._notes))
        try:
            padded = self._padded(wanted, seen)
        except RefusedError as refused:
            words = ", ".join(f"{names[kind]} ({self._size(kind)})" for kind in wanted)
            return Fitted(self.view, (*self._notes, f"not padded along {words}: {refused}"))
        for kind, bucket in wanted.items():
            size = self._size(kind)
            how = f"{size} -> {bucket}" if size != bucket else f"nothing to add to {size}"
            self._notes.append(f"padded along {names[kind]}: {how} (bucket declared by {self.device})")
        return Fitted(padded, tuple(self._notes))

    def _size(self, axis: Axis) -> int:
        return self.view.shape(axis[0])[axis[1]]

    def _varying(self, axes: Sequence[Axis], seen: Seen) -> dict[Axis, str]:
        """The classes that the model leaves free, or whose sizes have differed, with what to call them."""
        found: dict[Axis, tuple[str, Axis]] = {}
        for position, axis in enumerate(axes):
            name = self.free.name(axis) or (name_of(axis) if position in seen.varied else None)
            if name is not None:
                found.setdefault(self._classes.of(axis), (name, axis))
        uses = Counter(name for name, _ in found.values())
        return {kind: name if uses[name] == 1 else f"{name} ({name_of(axis)})" for kind, (name, axis) in found.items()}

    def _bucket(self, kind: Axis, name: str) -> int | None:
        """The bucket that a class is to be padded to, if it is."""
        size, reason = self._size(kind), self._classes.reason(kind)
        bucket = self.buckets.bucket(size)
        if bucket is None and not reason:
            reason = f"{self.device} declares no bucket for it"
        if reason:
            self._notes.append(f"not padded along {name} ({size}): {reason}")
        return None if reason else bucket

    def _padded(self, wanted: Mapping[Axis, int], seen: Seen) -> PaddedView:
        """
        Raises:
            RefusedError: if that cannot be, would be of no use, or the device does not take it.
        """
        stage = self.stage
        types, known = dict(stage.types), dict(stage.known)
        for kind, members in self._classes.members().items():
            if kind in wanted:
                for value, axis in members:
                    types[value] = self._longer(types, value, axis, kind, wanted[kind])
        restated = self._restate(wanted, known)
        reads = dict.fromkeys(value for node in self.view.nodes for value in node_reads(node))
        seen.read(tuple(content_word(known[v]) for v in reads if v in known and v not in restated))
        if not seen.is_steady:
            raise RefusedError("contents that its nodes read change with the sizes, so that a bucket would serve one")
        self._check(reads, types, known)
        view = PaddedView(
            stage.graph,
            self.view.nodes,
            self.view.inputs,
            self.view.outputs,
            types,
            known,
            name=self.view.name,
            opset_imports=self.view.opset_imports,
        )
        declined = self.ask(view)
        if declined:
            raise RefusedError(declined)
        return view

    def _longer(self, types: Mapping[Value, ValueType], value: Value, axis: int, kind: Axis, bucket: int) -> TensorType:
        found = types.get(value, value.type)
        assert isinstance(found, TensorType), "classes are of axes of tensors"
        shape = list(found.concrete_shape)
        if self._size((value, axis)) != self._size(kind):
            raise self._wrong(f"'{value.name}' has {shape[axis]} positions where {self._size(kind)} are expected")
        shape[axis] = bucket
        return TensorType(found.dtype, tuple(shape))

    def _restate(self, wanted: Mapping[Axis, int], known: dict[Value, Tensor]) -> set[Value]:
        """Change the contents that state sizes; returns which."""
        changed: dict[Value, dict[int, int]] = {}
        readers: dict[tuple[Value, int], set[Node]] = {}
        for kind, bucket in wanted.items():
            for node, value, element in self._classes.stated(kind):
                if value.constant is not None or value not in known:
                    raise RefusedError(f"the constant '{value.name}' states the size")
                if changed.setdefault(value, {}).setdefault(element, bucket) != bucket:
                    raise RefusedError(f"'{value.name}' states two sizes at once")
                readers.setdefault((value, element), set()).add(node)
        for value, elements in changed.items():
            for element in elements:
                if not readers[value, element].issuperset(self.view.users(value)):
                    raise RefusedError(f"'{value.name}' states the size, and is read for something else, too")
            content = np.array(known[value].numpy())
            for element, bucket in elements.items():
                content.reshape(-1)[element] = bucket
            known[value] = Tensor.from_numpy(content)
        return set(changed)

    def _check(self, reads: Iterable[Value], types: Mapping[Value, ValueType], known: Mapping[Value, Tensor]) -> None:
        """Look whether the shapes of all results are what the rules of the operators promise."""
        from mace_core.operators import resolve

        made = {value for node in self.view.nodes for value in node.outputs}
        inputs = [value for value in reads if value not in made and value.constant is None]
        part = fragment(self.stage.graph, self.view.nodes, inputs, self.view.outputs, name=self.view.name)
        fed: dict[Value, ValueType] = {}
        for value in inputs:
            content = known.get(value)
            found = types.get(value, value.type) if content is None else TensorType(content.dtype, content.shape)
            if found is not None:
                fed[value] = found
        contents = {value: known[value] for value in inputs if value in known}
        try:
            resolved = resolve(part, fed, contents, opset_imports=self.view.opset_imports).types
        except ModelError as error:
            raise self._wrong(reason_of(error)) from None
        for result in (value for node in self.view.nodes for value in node.outputs if value is not None):
            if result not in known and resolved.get(result) != types.get(result):
                raise self._wrong(f"'{result.name}' would be {resolved.get(result)}, not {types.get(result)}")

    def _wrong(self, words: str) -> RefusedError:
        _log.warning("%s is not padded: what its operators say of their axes is wrong: %s", self.view.name, words)
        return RefusedError(f"its shapes would not fit: {words}")


def _axes(value: Value, view: GraphView) -> list[Axis]:
    found = view.tensor_type(value)
    if found is None or not found.is_concrete:
        return []
    return [(value, axis) for axis in range(len(found.concrete_shape))]
