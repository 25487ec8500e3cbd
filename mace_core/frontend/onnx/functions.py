"""The model-local functions of an ONNX model: finding them, and which calls are allowed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeAlias

from mace_core.errors import ModelError, UnsupportedModelError
from mace_core.frontend.onnx.schemas import standard_domain

if TYPE_CHECKING:
    import onnx

FunctionKey: TypeAlias = "tuple[str, str, str]"
"""Domain, name, overload."""

MAX_CALL_DEPTH = 100
MAX_INLINED_NODES = 50_000
"""Nodes and calls that functions may come to.  Functions that call functions can declare any number in a few bytes, and
each takes a fraction of a millisecond to load; the largest real models have a fifth of this."""


class FunctionLibrary:
    """The functions of a model by domain, name and overload."""

    def __init__(self, model: onnx.ModelProto, label: str) -> None:
        """
        Raises:
            ModelError: if two functions have the same domain, name and overload.
        """
        self._label = label
        self._functions: dict[FunctionKey, onnx.FunctionProto] = {}
        self._opsets: dict[FunctionKey, dict[str, int]] = {}
        for function in model.functions:
            key = self.key(function)
            if key in self._functions:
                raise ModelError(f"{label} has two functions '{key[1]}' in domain '{key[0]}' (overload '{key[2]}')")
            self._functions[key] = function
            self._opsets[key] = {standard_domain(o.domain): o.version for o in function.opset_import}
        self._sizes: dict[FunctionKey, int] = {}
        self.domains = {key[0] for key in self._functions}

    @staticmethod
    def key(function: onnx.FunctionProto) -> FunctionKey:
        """What calls to ``function`` name."""
        return standard_domain(function.domain), function.name, function.overload

    def find(self, domain: str, op_type: str, overload: str) -> onnx.FunctionProto | None:
        """The function that a node with these names calls, or None if it is an operator."""
        return self._functions.get((domain, op_type, overload)) if self._functions else None

    def opset(self, key: FunctionKey, domain: str) -> int | None:
        """The opset version of ``domain`` that a function is written for; None if it does not say."""
        return self._opsets[key].get(domain)

    def check_size(self, function: onnx.FunctionProto) -> None:
        """Refuse a function that calls others so often that the model would grow by more than `MAX_INLINED_NODES`.

        Raises:
            UnsupportedModelError: naming the function.
        """
        if self._size(function, 0) > MAX_INLINED_NODES:
            raise self.too_many(f"function '{function.name}' is")

    def too_many(self, inlined: str) -> UnsupportedModelError:
        """The error for a model whose ``inlined`` come to too many nodes."""
        return UnsupportedModelError(
            f"{self._label} grows by more than {MAX_INLINED_NODES:,} nodes once its {inlined} inlined; "
            "inline them in the file if that is what is meant"
        )

    def _size(self, function: onnx.FunctionProto, depth: int) -> int:
        """Nodes and calls that one call comes to; what calls itself or too deep counts once, `check_call` says so."""
        key = self.key(function)
        known = self._sizes.get(key)
        if known is None:
            self._sizes[key] = 1
            known = 1 if depth > MAX_CALL_DEPTH else 1 + self._size_of_nodes(function.node, depth)
            self._sizes[key] = known
        return known

    def _size_of_nodes(self, nodes: Iterable[onnx.NodeProto], depth: int) -> int:
        size = 0
        for node in nodes:
            called = self.find(standard_domain(node.domain), node.op_type, node.overload)
            size += 1 if called is None else self._size(called, depth + 1)
            for attribute in node.attribute:
                for graph in (attribute.g, *attribute.graphs):
                    size += self._size_of_nodes(graph.node, depth)
        return size

    def check_call(
        self, function: onnx.FunctionProto, call: onnx.NodeProto, where: str, calls: tuple[FunctionKey, ...]
    ) -> None:
        """Refuse recursion and calls with more arguments than the function has; ``calls`` are those around this one.

        Raises:
            ModelError: naming the function and the call.
        """
        key = self.key(function)
        if key in calls:
            raise ModelError(f"{self._label}: function '{key[1]}' calls itself (in {where}), which ONNX does not allow")
        if len(calls) >= MAX_CALL_DEPTH:
            raise UnsupportedModelError(f"{self._label}: functions call each other more than {MAX_CALL_DEPTH} deep")
        for kind, given, declared in (
            ("inputs", len(call.input), len(function.input)),
            ("outputs", len(call.output), len(function.output)),
        ):
            if given > declared:
                raise ModelError(f"{self._label}: {where} has {given} {kind}; the function has {declared}")
        if len(set(function.input)) != len(function.input):
            raise ModelError(f"{self._label}: function '{key[1]}' has two inputs with the same name")
        known = {*function.attribute, *(a.name for a in function.attribute_proto)}
        for attribute in call.attribute:
            if attribute.name not in known:
                raise ModelError(f"{self._label}: {where} gives an attribute '{attribute.name}' the function lacks")
