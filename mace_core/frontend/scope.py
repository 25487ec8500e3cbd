"""Names: which value a name means where, and names that are free."""

from __future__ import annotations

from mace_core.graph import Graph, Value


class Scope:
    """What names mean inside one graph or function body; nested graphs see the scopes around them."""

    __slots__ = ("_outer", "values")

    def __init__(self, outer: Scope | None = None) -> None:
        self.values: dict[str, Value | None] = {}  # None: an optional function input that the call leaves out
        self._outer = outer

    def find(self, name: str) -> tuple[bool, Value | None]:
        """Whether ``name`` is defined, and its value."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.values:
                return True, scope.values[name]
            scope = scope._outer
        return False, None


class Frame:
    """A graph being filled, with the value names taken in it; function bodies are filled into their caller's."""

    __slots__ = ("_outer", "graph", "names")

    def __init__(self, graph: Graph, outer: Frame | None) -> None:
        self.graph = graph
        self.names: set[str] = set()
        self._outer = outer

    def is_taken(self, name: str) -> bool:
        """Whether a value of this graph or one around it has this name."""
        frame: Frame | None = self
        while frame is not None:
            if name in frame.names:
                return True
            frame = frame._outer
        return False


class Names:
    """Hands out names that are unique within a model, keeping the file's own where possible."""

    def __init__(self) -> None:
        self.values: set[str] = set()
        self._nodes: set[str] = set()
        self._nodes_of_file: set[str] = set()
        self._next: dict[str, int] = {}

    def reserve_node(self, name: str) -> None:
        """Keep ``name`` for the node that has it in the file."""
        self._nodes_of_file.add(name)

    def value(self, wanted: str, frame: Frame, *, of_file: bool) -> str:
        """A name for a new value of ``frame``: ``wanted``, with a number behind it if that is taken.

        Names of the file may repeat in graphs that do not see each other; made-up ones never do.
        """
        name = wanted
        while frame.is_taken(name) or (not of_file and name in self.values):
            name = self._numbered(wanted)
            of_file = False
        frame.names.add(name)
        self.values.add(name)
        return name

    def node(self, wanted: str, *, of_file: bool) -> str:
        """A name for a new node."""
        name = wanted
        while name in self._nodes or (not of_file and name in self._nodes_of_file):
            name = self._numbered(wanted)
            of_file = False
        self._nodes.add(name)
        return name

    def _numbered(self, wanted: str) -> str:
        number = self._next.get(wanted, 0) + 1
        self._next[wanted] = number
        return f"{wanted}_{number}"
