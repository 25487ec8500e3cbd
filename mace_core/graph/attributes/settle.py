"""The walk over a graph that checks every attribute and brings it into the one form that is read."""

from __future__ import annotations

from typing import Any

from mace_core.errors import ModelError, shorten
from mace_core.graph.attribute import Attribute, AttributeKind
from mace_core.graph.attributes import contrib, machine_learning, standard
from mace_core.graph.attributes.rule import Empty, Rule
from mace_core.graph.graph import Graph, Node

_LISTS = frozenset(kind for kind in AttributeKind if kind.name.endswith("S"))
_LONGEST_SHOWN = 80

_BY_DOMAIN: dict[str, tuple[dict[str, Rule], dict[str, dict[str, Rule]]]] = {
    "": (standard.BY_NAME, standard.BY_OPERATOR),
    "ai.onnx.ml": (machine_learning.BY_NAME, machine_learning.BY_OPERATOR),
    "ai.onnx.preview": (standard.BY_NAME, standard.BY_OPERATOR),
    "ai.onnx.preview.training": (standard.BY_NAME, standard.TRAINING),
    "com.microsoft": (standard.BY_NAME | contrib.BY_NAME, standard.BY_OPERATOR | contrib.BY_OPERATOR),
}


def rule_for(domain: str, op_type: str, name: str) -> Rule | None:
    """The rule of an attribute, or None for operators and attributes that are not known here."""
    tables = _BY_DOMAIN.get(domain)
    if tables is None:
        return None
    by_name, by_operator = tables
    return by_operator.get(op_type, {}).get(name) or by_name.get(name)


def settle_attributes(graph: Graph) -> None:
    """Check the attributes of every node, those of nested graphs too, and change them into the form that is read.

    Lists without elements go where they mean the same as no list, other spellings become the usual one.

    Raises:
        ModelError: naming model, node, attribute and value of the first that cannot be.
    """
    label = graph.source_path or (f"model '{shorten(graph.name)}'" if graph.name else "the model")
    waiting = [graph]
    while waiting:
        for node in waiting.pop().nodes:
            _settle(node, label)
            waiting.extend(node.subgraphs())


def _settle(node: Node, label: str) -> None:
    tables = _BY_DOMAIN.get(node.domain)
    if tables is None:
        return
    by_name, by_operator = tables
    own = by_operator.get(node.op_type, {})
    for name, attribute in list(node.attributes.items()):
        rule = own.get(name) or by_name.get(name)
        if rule is None:
            continue
        if attribute.kind not in rule.kinds:
            kinds = " or ".join(sorted(kind.name for kind in rule.kinds))
            raise _error(label, node, name, attribute.value, f"must be of kind {kinds}, not {attribute.kind.name}")
        if attribute.kind in _LISTS and not attribute.value and rule.empty is Empty.ABSENT:
            del node.attributes[name]
            continue
        problem = rule.problem(attribute.value)
        if problem:
            raise _error(label, node, name, attribute.value, problem)
        value = rule.canonical(attribute.value)
        if value != attribute.value:
            node.attributes[name] = Attribute(attribute.kind, value)
    for name, rule in own.items():
        if rule.required and name not in node.attributes:
            raise ModelError(
                f"{label}: node '{shorten(node.name)}' ({node.qualified_op}) lacks the attribute '{name}'."
            )


def _error(label: str, node: Node, name: str, value: Any, problem: str) -> ModelError:
    shown = repr(list(value) if isinstance(value, tuple) else value)
    if len(shown) > _LONGEST_SHOWN:
        shown = f"{shown[:_LONGEST_SHOWN]}…"
    return ModelError(
        f"{label}: node '{shorten(node.name)}' ({node.qualified_op}) has the attribute '{name}' = {shown}; "
        f"it {problem}. Mend the model or export it anew."
    )
