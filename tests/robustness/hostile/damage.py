"""Good models made bad at random: bytes changed, files cut, fields of the messages given values nobody expects."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import onnx
from google.protobuf.descriptor import FieldDescriptor as Field

from hostile.bases import bases
from hostile.case import Case, of_bytes

_INTEGERS = (0, 1, -1, 2, 7, -7, 1000, 2**31 - 1, -(2**31), 2**31, 2**40, 2**62, 2**63 - 1, -(2**63))
_FLOATS = (float("nan"), float("inf"), float("-inf"), 0.0, -1.0, 1e38, 1e-45)
_TEXTS = ("", "nonsense", "\0", "%s%n{0}", "../../x", "ü" * 50, "a" * 20_000, "[bold]\x1b[31m")

_INTEGER_TYPES = (Field.TYPE_INT32, Field.TYPE_INT64, Field.TYPE_UINT64, Field.TYPE_ENUM)


def damaged(seed: int, bytewise: int, fieldwise: int) -> Iterator[Case]:
    """``bytewise`` cases of changed bytes and ``fieldwise`` ones of changed fields, over all good models."""
    names = sorted(bases())
    for number in range(bytewise):
        base = names[number % len(names)]
        kind, change = _BYTE_CHANGES[number // len(names) % len(_BYTE_CHANGES)]
        chooser = random.Random(f"{seed}/{number}/bytes")
        make = partial(_changed, change, base, chooser.getrandbits(64))
        yield of_bytes(kind, f"{kind} {number} of {base}", make)
    small = [name for name in names if len(bases()[name]) < 1 << 20]
    for number in range(fieldwise):
        base = small[number % len(small)]
        chooser = random.Random(f"{seed}/{number}/fields")
        make = partial(_changed, _change_fields, base, chooser.getrandbits(64))
        yield of_bytes("changed fields", f"fields {number} of {base}", make)


def _changed(change: Callable[[bytearray, random.Random], bytes], base: str, seed: int) -> bytes:
    return change(bytearray(bases()[base]), random.Random(seed))


# --- bytes ---------------------------------------------------------------------------------------------------------


def _place(content: bytearray, chooser: random.Random) -> int:
    """Near the ends more often than not: there are the names, in between the weights."""
    edge = min(len(content), 4000)
    return chooser.choice(
        (chooser.randrange(edge), len(content) - 1 - chooser.randrange(edge), chooser.randrange(len(content)))
    )


def _flip(content: bytearray, chooser: random.Random, count: int) -> bytes:
    for _ in range(count):
        content[_place(content, chooser)] ^= 1 << chooser.randrange(8)
    return bytes(content)


def _truncate(content: bytearray, chooser: random.Random) -> bytes:
    return bytes(content[: _place(content, chooser)])


def _overwrite(content: bytearray, chooser: random.Random) -> bytes:
    start = _place(content, chooser)
    for place in range(start, min(len(content), start + chooser.randrange(1, 40))):
        content[place] = chooser.choice((0, 0xFF, 0x80, 0x7F, chooser.randrange(256)))
    return bytes(content)


def _remove(content: bytearray, chooser: random.Random) -> bytes:
    start = _place(content, chooser)
    del content[start : start + chooser.randrange(1, 200)]
    return bytes(content)


def _repeat(content: bytearray, chooser: random.Random) -> bytes:
    start = _place(content, chooser)
    piece = content[start : start + chooser.randrange(1, 500)]
    content[start:start] = piece * chooser.choice((1, 1, 50))
    return bytes(content)


_BYTE_CHANGES: tuple[tuple[str, Callable[[bytearray, random.Random], bytes]], ...] = (
    ("one bit flipped", partial(_flip, count=1)),
    ("bits flipped", partial(_flip, count=12)),
    ("truncated", _truncate),
    ("overwritten", _overwrite),
    ("bytes removed", _remove),
    ("bytes repeated", _repeat),
)


# --- fields --------------------------------------------------------------------------------------------------------


def _change_fields(content: bytearray, chooser: random.Random) -> bytes:
    model = onnx.ModelProto.FromString(bytes(content))
    for _ in range(chooser.choice((1, 1, 2, 3))):
        places = list(_places(model))
        message, field = chooser.choice(places)
        names = _TEXTS + tuple(chooser.choice(model.graph.node).output[:1]) if model.graph.node else _TEXTS
        _change(message, field, chooser, names)
    return model.SerializeToString()


def _places(message: Any) -> Iterator[tuple[Any, Any]]:
    """Every field that is set, of the message and of those in it; of many alike, the first few and the last."""
    for field, content in message.ListFields():
        yield message, field
        if field.type == Field.TYPE_MESSAGE:
            for inner in content if _is_repeated(field) else (content,):
                yield from _places(inner)


def _is_repeated(field: Any) -> bool:
    return bool(field.is_repeated if hasattr(field, "is_repeated") else field.label == Field.LABEL_REPEATED)


def _change(message: Any, field: Any, chooser: random.Random, names: tuple[str, ...]) -> None:
    if _is_repeated(field):
        _change_list(getattr(message, field.name), field, chooser, names)
    elif field.type == Field.TYPE_MESSAGE or chooser.random() < 0.2:
        message.ClearField(field.name)
    else:
        setattr(message, field.name, _odd(getattr(message, field.name), field, chooser, names))


def _change_list(items: Any, field: Any, chooser: random.Random, names: tuple[str, ...]) -> None:
    place = chooser.randrange(len(items))
    action = chooser.choice(("remove", "repeat", "odd", "odd"))
    if action == "remove":
        del items[place]
    elif action == "repeat":
        items.append(items[place])
    elif field.type != Field.TYPE_MESSAGE:
        items[place] = _odd(items[place], field, chooser, names)
    else:
        items[place].CopyFrom(items[chooser.randrange(len(items))])


def _odd(old: Any, field: Any, chooser: random.Random, names: tuple[str, ...]) -> Any:
    """A value that the field can hold and nobody expects."""
    if field.type == Field.TYPE_STRING:
        return chooser.choice(names)
    if field.type == Field.TYPE_BYTES:
        return chooser.choice((old[: len(old) // 2], old + b"\xff\xfe\0", b"\xff" * len(old), b""))
    if field.type in (Field.TYPE_FLOAT, Field.TYPE_DOUBLE):
        return chooser.choice(_FLOATS)
    assert field.type in _INTEGER_TYPES, f"the fields of a model are of known types, not {field.type}"
    if field.type == Field.TYPE_ENUM:
        return chooser.choice(sorted(field.enum_type.values_by_number))
    low, high = _LIMITS[field.type]
    return chooser.choice([number for number in _INTEGERS if low <= number <= high])


_LIMITS = {
    Field.TYPE_INT32: (-(2**31), 2**31 - 1),
    Field.TYPE_INT64: (-(2**63), 2**63 - 1),
    Field.TYPE_UINT64: (0, 2**63 - 1),
}
