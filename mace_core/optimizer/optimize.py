"""The driver: runs passes over a graph and the graphs nested in it until nothing changes."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from mace_core.graph import Graph
from mace_core.optimizer.common_subexpressions import MergeCommonSubexpressions
from mace_core.optimizer.constants import Computation, FoldConstants, LiftConstants
from mace_core.optimizer.control_flow import InlineDecidedIf
from mace_core.optimizer.dead_code import RemoveDeadCode
from mace_core.optimizer.identities import RemoveIdentities
from mace_core.optimizer.infra import GraphPass, PassContext, PassReport
from mace_core.optimizer.layout import FoldTransposes
from mace_core.optimizer.pads import FoldPads

logger = logging.getLogger("mace.optimizer")

MAX_ROUNDS = 20
"""A guard against passes that undo each other's work; real models settle in two or three rounds."""


def default_passes(compute: Computation | None = None, *, defers: bool = False) -> list[GraphPass]:
    """The passes every model goes through, in their order.

    Args:
        compute: runs what depends on constants alone and is not computed exactly by the passes themselves; where None,
            that stays in the graph.
        defers: `defer_constants` follows, so that large constants may be left to it.
    """
    return [
        LiftConstants(),
        FoldConstants(compute, leaves_moves=defers),
        InlineDecidedIf(),
        RemoveIdentities(),
        FoldTransposes(),
        FoldPads(),
        MergeCommonSubexpressions(),
        RemoveDeadCode(),
    ]


def optimize(graph: Graph, passes: Sequence[GraphPass] | None = None) -> PassReport:
    """Simplify ``graph`` in place; what it computes, and the names of its inputs and outputs, stay the same.

    Args:
        graph: an outermost graph.
        passes: what to run, in order; default :func:`default_passes`.
    """
    chosen = list(passes) if passes is not None else default_passes()
    report = PassReport({graph_pass.name: 0 for graph_pass in chosen})
    for _ in range(MAX_ROUNDS):
        changed = 0
        for graph_pass in chosen:
            count = _visit(graph, graph_pass, PassContext(graph.opset_imports))
            report.changes[graph_pass.name] += count
            changed += count
        if not changed:
            break
    else:
        logger.warning("the passes on '%s' did not settle in %d rounds", graph.name, MAX_ROUNDS)
    return report


def _visit(graph: Graph, graph_pass: GraphPass, context: PassContext) -> int:
    count = graph_pass.run(graph, context)
    inner = PassContext(context.opset_imports, nested=True)
    for node in graph.nodes:
        for body in node.subgraphs():
            count += _visit(body, graph_pass, inner)
    return count
