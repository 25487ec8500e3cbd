"""The tables by which families say what they lower; they are filled by walking the package.

A family registers what it can lower in modules whose names begin with ``lower``, ``match`` or ``pass``::

    @lowers("Relu", check=float32_only)
    def relu(program: Program, node: Node) -> None: ...

``check(view, node)`` returns None if this node can be lowered, or the reason why not.  It decides the provider's
claims, so a lowering never fails on a node its check let pass.  A lowering may fuse following nodes into its steps
(`Fusion.sole_user`, `Fusion.fuse`) and asks for its inputs in the layout it likes best (`Values.has`, `read`).

A fusion takes a node only if it is free (`Fusion.is_free`): not computed yet, and not the one that another fusion has
left a value to (`Fusion.defer`).  Values in between that somebody else reads, or that are outputs, are computed.

Where another family's nodes begin a pattern (``MatMul`` an attention), `begins` lets the family of the pattern look at
them first.  `before_lowering` and `after_lowering` are for passes over a whole subgraph, and `instead` for parts of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mace_core.graph import GraphView, Node
from mace_core.provider import Lowerings
from mace_cpu.shared.parts.facts import Settings
from mace_cpu.shared.program.order import operands_first
from mace_cpu.shared.program.program import Program

Check = Callable[[GraphView, Node], "str | None"]
Lower = Callable[[Program, Node], None]
Begin = Callable[[Program, Node], bool]
Notes = dict[str, str]
"""Remarks on nodes by their name, for explanations."""

Prepare = Callable[[GraphView, Settings, Notes], GraphView]

Instead = Callable[[Program], Mapping[Node, Callable[[], None]]]


@dataclass(frozen=True, slots=True)
class Lowering:
    """How one operator is lowered, and when it can be."""

    lower: Lower
    check: Check


REGISTERING = ("lower", "match", "pass")
"""How the names of modules begin that register something."""

LOWERINGS: Lowerings[Lowering] = Lowerings("cpu", __name__.partition(".")[0], REGISTERING)
"""Filled by the modules of the package when it is first asked."""

_PATTERNS: dict[tuple[str, str], list[Begin]] = {}
_BEFORE: list[tuple[int, Prepare]] = []
_AFTER: list[Callable[[Program], None]] = []
_INSTEAD: list[Instead] = []


def lowers(*op_types: str, check: Check, domain: str = "") -> Callable[[Lower], Lower]:
    """Register the decorated function as the lowering of these operators.

    Raises:
        UsageError: if one of them has a lowering already.
    """

    def register(function: Lower) -> Lower:
        LOWERINGS.add(dict.fromkeys(op_types, Lowering(function, check)), domain=domain)
        return function

    return register


def begins(*op_types: str, domain: str = "") -> Callable[[Begin], Begin]:
    """Register the decorated function as one that is asked before nodes of these operators are lowered.

    It returns whether it has computed the node, or has left it to another (`Fusion.defer`).
    """

    def register(function: Begin) -> Begin:
        for op_type in op_types:
            _PATTERNS.setdefault((domain, op_type), []).append(function)
        return function

    return register


def before_lowering(turn: int) -> Callable[[Prepare], Prepare]:
    """Register the decorated function as one that every subgraph goes through before its nodes are lowered.

    ``turn``: functions with a smaller number come first; two must not have the same.  The function may add remarks.

    Raises:
        ValueError: if another function has that turn.
    """

    def register(function: Prepare) -> Prepare:
        if any(turn == taken for taken, _ in _BEFORE):
            raise ValueError(f"two passes before lowering have turn {turn}")
        _BEFORE.append((turn, function))
        _BEFORE.sort(key=lambda entry: entry[0])
        return function

    return register


def instead(function: Instead) -> Instead:
    """Register the decorated function as one that may emit several nodes at once, whatever their lowerings would do.

    It is called before the first node is lowered, and answers what to call where a node's turn comes.  What is called
    marks the nodes whose steps it emits as computed (`Fusion.begin`, `Fusion.claim`), or leaves all as they are.
    """
    _INSTEAD.append(function)
    return function


def after_lowering(function: Callable[[Program], None]) -> Callable[[Program], None]:
    """Register the decorated function as one that may change the steps of a program when all are there."""
    _AFTER.append(function)
    return function


def lower(view: GraphView, settings: Settings, outer: Program | None = None) -> Program:
    """All of a subgraph as steps.

    ``outer``: the program that these steps will be part of; it has the constants and the faults of both.

    Raises:
        ValueError: if a node has no lowering.
    """
    LOWERINGS.load()
    notes: Notes = {}
    for _, prepare in _BEFORE:
        view = prepare(view, settings, notes)
    program = Program(view, settings, outer)
    several = {node: emit for find in _INSTEAD for node, emit in find(program).items()}
    for node in operands_first(view):
        if node in several and not program.fusion.is_done(node):
            several[node]()
        if not program.fusion.is_done(node):
            _lower_node(program, node)
    program.finish()
    for change in _AFTER:
        change(program)
    for name, note in notes.items():
        if name not in program.steps.settled:
            program.steps.add_note(name, note)
    return program


def _lower_node(program: Program, node: Node) -> None:
    lowering = LOWERINGS.find(node.domain, node.op_type)
    if lowering is None:
        raise ValueError(f"node '{node.name}' ({node.op_type}) was never claimed")
    program.fusion.begin(node)
    if not any(begin(program, node) for begin in _PATTERNS.get((node.domain, node.op_type), ())):
        lowering.lower(program, node)
