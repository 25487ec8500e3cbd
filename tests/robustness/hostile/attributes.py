"""Good nodes with one attribute changed: gone, empty, short, long, negative, enormous, nonsense, of another kind."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import onnx
from onnx import AttributeProto, helper

from hostile.case import Case
from hostile.nodes import Base
from hostile.worker import FEEDS

NUMBERS = (0, 1, -1, 2, 3, 7, -2, 65, 1 << 20, 1 << 31, -(1 << 31), (1 << 62) + 1, (1 << 63) - 1, -(1 << 63))
IN_LISTS = (0, -1, 2, 9, 1 << 31, (1 << 63) - 1, -(1 << 63))
FLOATS = (0.0, -1.0, 2.5, 1e-45, 3e38, math.nan, math.inf, -math.inf)
TEXTS = (b"", b"nonsense", b"\xff\xfe", b"LINEAR" * 40)

_KINDS = AttributeProto


def changed(base: Base) -> Iterator[tuple[str, onnx.ModelProto]]:
    """What is done to it, and the model, for each change."""
    for name, kind in _attributes(base):
        given = next((a for a in base.node.attribute if a.name == name), None)
        if given is not None:
            yield f"{name} absent", _with(base, name, None)
        for what, attribute in _values(name, kind, given):
            yield f"{name} {what}", _with(base, name, attribute)


def cases(base: Base) -> Iterator[Case]:
    """The changes as files with arrays to feed."""
    for what, model in changed(base):
        yield Case(base.name, what, writer(model, base.feeds))


def unchanged(base: Base) -> Case:
    """The good model itself."""
    return Case(base.name, "as it is", writer(base.model, base.feeds))


def writer(model: onnx.ModelProto, feeds: dict[str, Any]) -> Callable[[Path], Path]:
    """Puts a model into a folder, and beside it what it is to be fed."""

    def write(folder: Path) -> Path:
        (folder / "model.onnx").write_bytes(model.SerializeToString())
        (folder / FEEDS).write_bytes(pickle.dumps(feeds))
        return folder / "model.onnx"

    return write


def _attributes(base: Base) -> Iterable[tuple[str, int]]:
    """Every attribute that the schema has, or, where there is none, that the node has."""
    node = base.node
    try:
        schema = onnx.defs.get_schema(node.op_type, base.opset, node.domain)
    except onnx.defs.SchemaError:
        from mace_core.operators.attributes import rules_of

        known = {attribute.name: attribute.type for attribute in node.attribute}
        for name, rule in rules_of(node.domain, node.op_type).items():
            known.setdefault(name, next(iter(rule.kinds)).value)
        return sorted(known.items())
    return sorted((name, attribute.type.value) for name, attribute in schema.attributes.items())


def _with(base: Base, name: str, attribute: AttributeProto | None) -> onnx.ModelProto:
    model = onnx.ModelProto()
    model.CopyFrom(base.model)
    node = model.graph.node[0]
    for old in [old for old in node.attribute if old.name == name]:
        node.attribute.remove(old)
    if attribute is not None:
        node.attribute.append(attribute)
    return model


def _values(name: str, kind: int, given: AttributeProto | None) -> Iterator[tuple[str, AttributeProto]]:
    own: list[Any] = list(helper.get_attribute_value(given)) if given is not None and kind in _LISTS else []
    match kind:
        case _KINDS.INT:
            for number in NUMBERS:
                yield f"= {number}", AttributeProto(name=name, type=kind, i=number)
            yield "as a list", AttributeProto(name=name, type=_KINDS.INTS, ints=[1])
        case _KINDS.FLOAT:
            for real in FLOATS:
                yield f"= {real}", AttributeProto(name=name, type=kind, f=real)
            yield "as a text", AttributeProto(name=name, type=_KINDS.STRING, s=b"1")
        case _KINDS.STRING:
            for text in TEXTS:
                yield f"= {text!r:.20}", AttributeProto(name=name, type=kind, s=text)
            yield "as a number", AttributeProto(name=name, type=_KINDS.INT, i=1)
        case _KINDS.INTS:
            for what, ints in _lists(own or [1, 1], IN_LISTS):
                yield what, AttributeProto(name=name, type=kind, ints=ints)
            yield "as a number", AttributeProto(name=name, type=_KINDS.INT, i=1)
        case _KINDS.FLOATS:
            for what, floats in _lists(own or [1.0, 1.0], FLOATS):
                yield what, AttributeProto(name=name, type=kind, floats=floats)
        case _KINDS.STRINGS:
            for what, texts in _lists(own or [b"Relu", b"Relu"], TEXTS):
                yield what, AttributeProto(name=name, type=kind, strings=texts)


_LISTS = (_KINDS.INTS, _KINDS.FLOATS, _KINDS.STRINGS)


def _lists(own: list[Any], odd: Iterable[Any]) -> Iterator[tuple[str, list[Any]]]:
    yield "empty", []
    yield "short", own[:-1]
    yield "first only", own[:1]
    yield "long", [*own, own[-1]]
    yield "twice", own * 2
    yield "reversed", own[::-1]
    for item in odd:
        yield f"first {item!r:.24}", [item, *own[1:]]
        yield f"last {item!r:.24}", [*own[:-1], item]
    yield "a thousand", (own * 1000)[:1000]
