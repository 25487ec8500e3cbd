"""The walk over a graph that checks every attribute and brings it into the one form that is read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mace_core.errors import ModelError, UsageError, shorten
from mace_core.graph.attribute import Attribute, AttributeKind
from mace_core.graph.graph import Graph, Node
from mace_core.operators.attributes.rule import Empty, Rule
from mace_core.operators.packages import load_domain

_LISTS = frozenset(kind for kind in AttributeKind if kind.name.endswith("S"))
_LONGEST_SHOWN = 80

_bases: dict[str, str] = {}
_by_name: dict[str, dict[str, Rule]] = {}
_by_operator: dict[tuple[str, str], dict[str, Rule]] = {}
_NO_RULES: Mapping[str, Rule] = {}


def declare_attributes(domain: str, rules: Mapping[str, Rule], *, base: str | None = None) -> None:
    """Say what attributes of these names may be, wherever they occur in operators of ``domain``.

    Args:
        domain: "" for the standard's own.
        rules: by the name of the attribute.
        base: a domain whose rules hold where this one has none: of names, and of operators of the same name.
    """
    _by_name.setdefault(domain, {}).update(rules)
    if base is not None:
        _bases[domain] = base


def attribute_rules(*op_types: str, domain: str = "", rules: Mapping[str, Rule]) -> None:
    """Say what the attributes of these operators of ``domain`` may be, where that is not what their names say alone.

    Raises:
        UsageError: if one of the operators has such rules already.
    """
    for op_type in op_types:
        if (domain, op_type) in _by_operator:
            raise UsageError(
                f"{domain or 'ai.onnx'}.{op_type} has rules for its attributes already; "
                "an operator is registered once, in one place"
            )
        _by_operator[domain, op_type] = dict(rules)


def rule_for(domain: str, op_type: str, name: str) -> Rule | None:
    """The rule of an attribute, or None for operators and attributes that are not known here."""
    return rules_of(domain, op_type).get(name) or _rule_of_name(domain, name)


def rules_of(domain: str, op_type: str) -> Mapping[str, Rule]:
    """The rules that hold for the attributes of one operator alone, by name."""
    load_domain(domain)
    found = _by_operator.get((domain, op_type))
    if found is None:
        base = _bases.get(domain)
        return _NO_RULES if base is None else rules_of(base, op_type)
    return found


def _rule_of_name(domain: str, name: str) -> Rule | None:
    found = _by_name.get(domain, {}).get(name)
    if found is None and domain in _bases:
        return _rule_of_name(_bases[domain], name)
    return found


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
    own = rules_of(node.domain, node.op_type)
    for name, attribute in list(node.attributes.items()):
        rule = rule_for(node.domain, node.op_type, name)
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
            raise ModelError(f"{label}: node '{shorten(node.name)}' ({node.qualified_op}) lacks the attribute '{name}'")


def _error(label: str, node: Node, name: str, value: Any, problem: str) -> ModelError:
    shown = repr(list(value) if isinstance(value, tuple) else value)
    if len(shown) > _LONGEST_SHOWN:
        shown = f"{shown[:_LONGEST_SHOWN]}…"
    return ModelError(
        f"{label}: node '{shorten(node.name)}' ({node.qualified_op}) has the attribute '{name}' = {shown}; "
        f"it {problem}; fix the model, or export it again"
    )
