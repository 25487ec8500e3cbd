"""Variables: what a model keeps from one run to the next.

A variable becomes an input and an output of the graph.  Which output feeds which input, and what it is fed at first, is
in the graph's metadata (`mace_core.graph.kept`); a session keeps it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mace_core.frontend.tflite.description import FileModel, FileOperator, FileSubgraph
from mace_core.frontend.tflite.reader import DAMAGE
from mace_core.frontend.tflite.types import is_handle, type_of
from mace_core.graph import Value
from mace_core.tensor import Tensor, TensorType

_CALLS = {
    "IF": ("ThenSubgraphIndex", "ElseSubgraphIndex"),
    "WHILE": ("CondSubgraphIndex", "BodySubgraphIndex"),
    "STABLEHLO_WHILE": ("CondSubgraphIndex", "BodySubgraphIndex"),
    "CALL": ("Subgraph",),
    "STABLEHLO_COMPOSITE": ("DecompositionSubgraphIndex",),
}
"""Options that name subgraphs."""


@dataclass(slots=True)
class Variable:
    """One variable of the model.

    Attributes:
        key: its container and name, or the number of a tensor that is one.
        name: for its input and output.
        type: of what it holds; None where the file does not say.
        start: its first content; None where nothing says: zeros.
        source: its input; None until it is read or written.
    """

    key: str
    name: str
    type: TensorType | None = None
    start: Tensor | None = None
    source: Value | None = None


class Variables:
    """All variables of a model.

    Attributes:
        initialized: subgraphs that CALL_ONCE has run.
    """

    def __init__(self, model: FileModel) -> None:
        self._model = model
        self._found: dict[str, Variable] = {}
        self.initialized: set[int] = set()
        for graph in model.subgraphs:
            self._look_through(graph)

    def of(self, key: str, name: str, type: TensorType | None = None) -> Variable:
        """The variable of this key."""
        found = self._found.setdefault(key, Variable(key, name))
        found.type = found.type or type
        return found

    def at(self, key: str) -> Variable:
        """A variable that `of` has made."""
        return self._found[key]

    def all_keys(self) -> list[str]:
        """Of those of which the type is known."""
        return [key for key, variable in self._found.items() if variable.type is not None]

    def used(self) -> list[Variable]:
        """Those that the graph reads or writes."""
        return [variable for variable in self._found.values() if variable.source is not None]

    def are_changed_in(self, subgraphs: Iterable[int]) -> bool:
        """Whether any variable may be changed in these subgraphs, or in those that they call."""
        left, seen = list(subgraphs), set[int]()
        while left:
            index = left.pop()
            if index in seen or not 0 <= index < len(self._model.subgraphs):
                continue
            seen.add(index)
            for operator in self._model.subgraphs[index].operators:
                if operator.builtin == "ASSIGN_VARIABLE":
                    return True
                left += _called(operator)
        return False

    def _look_through(self, graph: FileSubgraph) -> None:
        """Find variables, and the types of what is read from and written to them."""
        handles: dict[int, str] = {}
        for operator in graph.operators:
            if operator.builtin == "VAR_HANDLE" and operator.outputs:
                key, name = variable_key(operator)
                self.of(key, name)
                handles[operator.outputs[0]] = key
            elif operator.builtin in ("READ_VARIABLE", "ASSIGN_VARIABLE") and operator.inputs[:1]:
                sides = operator.outputs if operator.builtin == "READ_VARIABLE" else operator.inputs[1:]
                found = self._found.get(handles.get(operator.inputs[0], ""))
                if found is not None and found.type is None and sides and sides[0] >= 0:
                    tensor = graph.tensors[sides[0]]
                    if not is_handle(tensor):
                        found.type = type_of(tensor, f"the variable '{found.name}'")


def variable_key(operator: FileOperator) -> tuple[str, str]:
    """The key of a VAR_HANDLE, and a name for it."""
    try:
        container = (operator.options.Container() or b"").decode("utf-8", "replace") if operator.options else ""
        name = (operator.options.SharedName() or b"").decode("utf-8", "replace") if operator.options else ""
    except DAMAGE:
        container = name = ""
    return f"{container}/{name}", name or "state"


def _called(operator: FileOperator) -> list[int]:
    try:
        return [getattr(operator.options, name)() for name in _CALLS.get(operator.builtin, ()) if operator.options]
    except DAMAGE:
        return []
