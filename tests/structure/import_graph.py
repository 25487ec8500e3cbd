"""Which module imports which, read off the sources: imports within functions count, those for type checkers do not."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator, Mapping
from pathlib import Path

Graph = dict[str, set[str]]


def import_graph(*packages: Path) -> Graph:
    """Module -> modules it imports, of all modules in these packages.

    ``from package import module`` is an import of the module, ``from package import name`` one of the package.
    """
    modules = {name: path for package in packages for name, path in _modules(package)}
    return {name: set(_imported(path, name, modules)) - {name} for name, path in modules.items()}


def _modules(package: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def _imported(path: Path, name: str, modules: Mapping[str, Path]) -> Iterator[str]:
    for node in _imports(path.read_text(encoding="utf-8")):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        else:
            assert not node.level, f"{name} imports relatively"
            base = node.module or ""
            for alias in node.names:
                full = f"{base}.{alias.name}"
                if full in modules:
                    yield full
                elif base in modules:
                    yield base


@functools.cache
def _imports(text: str) -> list[ast.Import | ast.ImportFrom]:
    return [node for node in _runtime_nodes(ast.parse(text)) if isinstance(node, (ast.Import, ast.ImportFrom))]


def _runtime_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those under ``if TYPE_CHECKING``."""
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING":
            for other in child.orelse:
                yield other
                yield from _runtime_nodes(other)
            continue
        yield child
        yield from _runtime_nodes(child)


def folded(graph: Graph, rooms: Mapping[str, str]) -> Graph:
    """The graph between rooms: ``rooms`` names the room of each module."""
    result: Graph = {}
    for module, imported in graph.items():
        own = result.setdefault(rooms[module], set())
        own.update(rooms[other] for other in imported)
        own.discard(rooms[module])
    return result


def circles(graph: Graph) -> list[list[str]]:
    """The strongly connected components of more than one node (Tarjan, 1972), each sorted."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(graph.get(node, ())):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            place = stack.index(node)
            component = sorted(stack[place:])
            del stack[place:]
            if len(component) > 1:
                found.append(component)

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return found
