"""Finds tests that cannot fail, or that fail for reasons other than what they test."""

from __future__ import annotations

import ast
from collections.abc import Iterator

CLOCKS = {"time.perf_counter", "time.perf_counter_ns"}
"""What times are measured with.  ``monotonic`` is left for guards against hangs, ``process_time`` for limits."""

BROAD = {"Exception", "BaseException"}

VERBS = ("assert", "check", "agree", "expect", "raises", "warns", "fail", "compare", "validate", "verify")
"""Whoever calls a function whose name holds one of these leaves the assertion to it."""


def weaknesses(source: str) -> Iterator[tuple[int, str]]:
    """(line, what is wrong) for each weakness of a module of tests."""
    tree = ast.parse(source)
    helpers = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    for node in ast.walk(tree):
        yield from _of_node(node)
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_") and not _asserts(node, helpers, set()):
            yield node.lineno, f"'{node.name}' asserts nothing"


def _of_node(node: ast.AST) -> Iterator[tuple[int, str]]:
    match node:
        case ast.Assert(test=ast.BoolOp(op=ast.Or())):
            yield node.lineno, "either alternative lets the assertion pass"
        case ast.Assert(test=ast.Constant() | ast.Tuple() | ast.JoinedStr() | ast.GeneratorExp()):
            yield node.lineno, "what is asserted is always true"
        case ast.ExceptHandler(type=None):
            yield node.lineno, "the handler swallows every error"
        case ast.ExceptHandler(type=caught, body=[ast.Pass() | ast.Continue()]):
            if _names(caught) & {*BROAD, "AssertionError"}:
                yield node.lineno, "the handler swallows what shows that the test fails"
        case ast.Call(func=function, args=[raised, *_], keywords=options):
            if not _names(raised) & BROAD:
                return
            if ast.unparse(function) == "pytest.raises" and not any(option.arg == "match" for option in options):
                yield node.lineno, "any error at all is expected"
            if ast.unparse(function) == "contextlib.suppress":
                yield node.lineno, "every error is suppressed"
        case ast.Attribute() if ast.unparse(node) in CLOCKS:
            yield node.lineno, f"{ast.unparse(node)} tells what else the machine does; count, or take processor time"


def _names(node: ast.AST | None) -> set[str]:
    if isinstance(node, ast.Tuple):
        return {name for item in node.elts for name in _names(item)}
    return set() if node is None else {ast.unparse(node).rpartition(".")[2]}


def _asserts(function: ast.FunctionDef, helpers: dict[str, ast.FunctionDef], seen: set[str]) -> bool:
    """Whether the function, or a helper of its module that it calls, asserts anything."""
    seen.add(function.name)
    for node in ast.walk(function):
        if isinstance(node, ast.Assert | ast.Raise):
            return True
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func).rpartition(".")[2]
            if any(verb in name.lower() for verb in VERBS):
                return True
            if any(option.arg == "check" and _is_true(option.value) for option in node.keywords):
                return True  # a process that fails
            if name in helpers and name not in seen and _asserts(helpers[name], helpers, seen):
                return True
    return False


def _is_true(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value is True
