"""Building a Graph from the description of a .tflite file."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy.typing as npt

from mace_core.errors import ModelError, UnsupportedModelError
from mace_core.frontend.scope import Frame, Names
from mace_core.frontend.tflite.buffers import Constants
from mace_core.frontend.tflite.description import FileModel, FileSignature
from mace_core.frontend.tflite.operation import Operation
from mace_core.frontend.tflite.place import Place
from mace_core.frontend.tflite.variables import Variables
from mace_core.graph import Graph, Node, Origin, Value
from mace_core.graph.graph import captured_values
from mace_core.graph.kept import KeptState, keep_state

OPSET = 21
"""Of the default domain, that imported graphs are written for."""

MAX_OPERATORS = 100_000
"""Operators that subgraphs may become when they are called, all together: a small file could call for any number."""

_VERSIONS = {"ai.onnx.ml": 3}
"""Of other domains than the default one; 1 where nothing is said."""

DEFAULT_SIGNATURE = "serving_default"


class Importer:
    """Builds the Graph of one file.

    Attributes:
        model, constants: the file.
        label: names it in messages.
        names: of the graph, so far.
        variables: of the model.
        tables: keys and values of hash tables.
        origins: of the graph's nodes, by the operator that they stand for.
        is_hybrid: floats that meet weights in integers become bytes, as in LiteRT.
    """

    def __init__(
        self,
        model: FileModel,
        constants: Constants,
        label: str,
        signature: str | None = None,
        *,
        is_hybrid: bool = True,
    ) -> None:
        """``signature``: the key of the signature wanted; by default the usual one, else the first subgraph."""
        self.is_hybrid = is_hybrid
        self.model = model
        self.constants = constants
        self.label = label
        self.names = Names()
        self.origins: dict[str, Origin] = {}
        self.tables: dict[str, tuple[npt.NDArray[Any], npt.NDArray[Any]]] = {}
        self.variables = Variables(model)
        self._domains = {"": OPSET}
        self._signature = chosen_signature(model, signature, label)
        self._operators = 0

    def build(self) -> Graph:
        """The graph of the signature.

        Raises:
            ModelError: if the model is not valid.
            UnsupportedModelError: if it has an operator that is not imported.
        """
        signature = self._signature
        file = self.model.subgraphs[signature.subgraph if signature is not None else 0]
        graph = Graph(file.name or "main")
        frame = Frame(graph, None)
        place = Place(self, file, graph, None, frame)
        given = {} if signature is None else {number: name for name, number in signature.inputs if name}
        asked = [(number, "") for number in file.outputs]
        if signature is not None:
            asked = _in_order(signature.outputs, file.outputs)
        for number in file.inputs:
            place.add_input(file.tensors[number], given.get(number))
        wanted = [name or file.tensors[number].name or f"output_{at}" for at, (number, name) in enumerate(asked)]
        names = [self.names.value(name, frame, of_file=True) for name in wanted]
        for (number, _), name in zip(asked, names, strict=True):
            place.reserve(number, name)
        place.fill()
        for (number, _), name in zip(asked, names, strict=True):
            self._add_output(graph, place.output(file.tensors[number]), name)
        self._add_state(place)
        _drop_unread(graph)
        graph.origins = self.origins
        graph.opset_imports = dict(self._domains)
        graph.doc_string = self.model.description
        return graph

    def use_domain(self, domain: str) -> None:
        """A node of this domain was added."""
        self._domains.setdefault(domain, _VERSIONS.get(domain, 1))

    def need_opset(self, version: int) -> None:
        """A node of the default domain was added that is newer than `OPSET`."""
        self._domains[""] = max(self._domains[""], version)

    def count_operator(self) -> None:
        """One more operator is imported.

        Raises:
            UnsupportedModelError: if there are too many.
        """
        self._operators += 1
        if self._operators > MAX_OPERATORS:
            raise UnsupportedModelError(
                f"{self.label} becomes more than {MAX_OPERATORS:,} operators when its subgraphs are called, "
                "which is not supported"
            )

    def initialize(self, index: int, op: Operation) -> None:
        """Import a subgraph that gives variables their first content; once."""
        if index in self.variables.initialized:
            return
        self.variables.initialized.add(index)
        file = op.place.subgraph(index, op)
        graph = Graph(file.name)
        Place(self, file, graph, None, Frame(graph, None), is_initializing=True).fill()

    def _add_output(self, graph: Graph, value: Value, name: str) -> None:
        """Make a value an output of this name: inputs, constants and values that are outputs already are passed on."""
        if value.producer is None or value in graph.outputs or value.name != name:
            passed = Value(name, value.type)
            node = self.names.node(f"{name}/Identity", of_file=False)
            graph.nodes.append(Node("Identity", [value], [passed], name=node))
            value = passed
        graph.outputs.append(value)

    def _add_state(self, place: Place) -> None:
        """Inputs and outputs for the variables, and in the metadata which of them belong together."""
        graph, pairs = place.graph, {}
        for variable in self.variables.used():
            source, last = variable.source, place.state[variable.key]
            assert source is not None
            start = variable.start
            if last is source and start is not None:  # nobody writes it: a constant
                source.constant = start
                graph.initializers[source.name] = source
                continue
            graph.inputs.append(source)
            name = self.names.value(f"{source.name}/next", place.frame, of_file=False)
            passed = Value(name, source.type)
            node = self.names.node(f"{name}/Identity", of_file=False)
            graph.nodes.append(Node("Identity", [last], [passed], name=node))
            graph.outputs.append(passed)
            pairs[source.name] = KeptState(name, None if start is None else start.numpy())
        if pairs:
            keep_state(graph, pairs)


def _drop_unread(graph: Graph) -> None:
    """Leave out constants that only the import has looked at (shapes, axes), of nested graphs too."""
    read = set(graph.outputs)
    for node in graph.nodes:
        read.update(value for value in node.inputs if value is not None)
        read.update(captured_values(node))
        for nested in node.subgraphs():
            _drop_unread(nested)
    graph.initializers = {name: value for name, value in graph.initializers.items() if value in read}


def _in_order(named: Iterable[tuple[str, int]], order: Iterable[int]) -> list[tuple[int, str]]:
    """The outputs of a signature, in the order of the subgraph's outputs."""
    places = {number: at for at, number in reversed(list(enumerate(order)))}
    return sorted(((number, name) for name, number in named), key=lambda pair: places.get(pair[0], len(places)))


def chosen_signature(model: FileModel, wanted: str | None, label: str) -> FileSignature | None:
    """The signature that is imported: the one wanted, else the usual one; None: the first subgraph without one.

    Raises:
        ModelError: if there is none of the name wanted.
    """
    by_key = {signature.key: signature for signature in model.signatures}
    if wanted is not None:
        if wanted not in by_key:
            known = ", ".join(f"'{key}'" for key in by_key) or "none"
            raise ModelError(f"{label} has no signature '{wanted}'; it has {known}")
        return by_key[wanted]
    if DEFAULT_SIGNATURE in by_key:
        return by_key[DEFAULT_SIGNATURE]
    of_main = [signature for signature in model.signatures if signature.subgraph == 0]
    return of_main[0] if of_main else None
