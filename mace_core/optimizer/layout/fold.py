"""The pass."""

from __future__ import annotations

import logging
from typing import ClassVar

from mace_core.graph import Graph, Node, Value
from mace_core.optimizer.dead_code import RemoveDeadCode
from mace_core.optimizer.infra import GraphPass, PassContext
from mace_core.optimizer.layout.facts import Facts
from mace_core.optimizer.layout.problem import Cost, Problem
from mace_core.optimizer.layout.rewrite import Rewriting
from mace_core.optimizer.layout.rows import keep_axes_of_rows
from mace_core.optimizer.layout.search import improve, is_less
from mace_core.tensor import ValueType

_log = logging.getLogger("mace.optimizer")


class FoldTransposes(GraphPass):
    """Computes in the order of axes in which the least has to be moved: Transposes that undo each other, with anything
    between them that works in any order, are left out; others are moved to where there is less to move.

    What is moved never becomes more, for any sizes of the inputs.
    """

    name: ClassVar[str] = "fold transposes"

    def __init__(self) -> None:
        self._around: dict[Value, ValueType] = {}  # types that nested graphs may ask for

    def run(self, graph: Graph, context: PassContext) -> int:
        if not context.nested:
            self._around = {}
        nested = any(True for node in graph.nodes for _ in node.subgraphs())
        has_transpose = any(_is_transpose(node) and not _reads_constant(node) for node in graph.nodes)
        if not has_transpose and not nested:
            return 0
        facts = Facts(graph, context.opset_imports, self._around)
        if nested:
            self._around.update(facts.resolver.types)
        if not has_transpose:
            return 0
        kept = keep_axes_of_rows(graph, facts)
        if kept:
            RemoveDeadCode().run(graph, context)
            facts = Facts(graph, context.opset_imports, self._around)
            if nested:
                self._around.update(facts.resolver.types)
        problem = Problem(graph, facts, context.opset_imports)
        before = problem.present_cost()
        if not before.transposes:
            return kept
        steps = improve(problem)
        after = Cost()
        for value in problem.values():
            after += problem.cost(value)
        if not steps and not is_less(problem, after, before):
            return kept
        count = _transposes(graph)
        Rewriting(problem).apply()
        _log.info("%d Transposes of '%s' have become %d", count, graph.name, _transposes(graph))
        return kept + max(steps, 1)


def _transposes(graph: Graph) -> int:
    return sum(1 for node in graph.nodes if _is_transpose(node))


def _reads_constant(node: Node) -> bool:
    value = node.input(0)
    return value is not None and value.constant is not None


def _is_transpose(node: Node) -> bool:
    return node.op_type == "Transpose" and not node.domain
