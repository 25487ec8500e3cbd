"""Custom operators: nodes of the domain ``tflite``, for applications to register."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mace_core.errors import UnsupportedModelError
from mace_core.frontend.tflite.operation import Operation

CUSTOM_DOMAIN = "tflite"
"""Of custom operators that nothing here knows: ``@mace_core.custom_op("tflite", "Name", …)`` registers one."""


def convert_custom(op: Operation) -> None:
    """A node with the operator's own name and what its options say; they are a flexbuffer in nearly all files.

    Raises:
        UnsupportedModelError: if it is a builtin operator.
    """
    if not op.file.custom:
        raise UnsupportedModelError(f"{op.where} is an operator that is not supported")
    inputs = [op.real(index) if op.has(index) else None for index in range(op.count)]
    outputs = op.several(op.file.custom, inputs, len(op.file.outputs), _attributes(op), domain=CUSTOM_DOMAIN)
    for index, value in enumerate(outputs):
        if op.file.outputs[index] >= 0:
            op.finish(value, index)


def _attributes(op: Operation) -> dict[str, Any]:
    """Numbers, texts and lists of a map; of options in another form the bytes, as whole numbers."""
    content = op.file.custom_options
    if not content:
        return {}
    found = flexible_options(content)
    return {"custom_options": list(content)} if found is None else dict(found)


def flexible_options(content: bytes) -> Mapping[str, Any] | None:
    """The numbers, texts and lists of numbers in the map that a flexbuffer holds; None if it holds something else.

    Nothing deeper is looked at: lists of lists that share their items would stand for any number of them.
    """
    from flatbuffers import flexbuffers

    try:
        root = flexbuffers.GetRoot(content)
        if not root.IsMap or len(root.AsMap) > len(content):
            return None
        found, left = {}, len(content)
        for key, value in zip(root.AsMap.Keys, root.AsMap.Values, strict=True):
            plain = _plain(value, left)
            if plain is not None:
                found[str(key.AsKey)] = plain
                left -= len(plain) if isinstance(plain, list | str) else 1
    except Exception:  # what it raises for other bytes is not documented
        return None
    return found


def _plain(value: Any, most: int) -> bool | int | float | str | list[int | float] | None:
    """A number, a text of at most ``most`` characters or a list of so many numbers; None for anything else."""
    if value.IsBool or value.IsInt or value.IsFloat or value.IsString or value.IsKey:
        found: bool | int | float | str = value.Value
        return None if isinstance(found, str) and len(found) > most else found
    if value.IsVector:
        items = value.AsVector
    elif value.IsTypedVector:
        items = value.AsTypedVector
    elif value.IsFixedTypedVector:
        items = value.AsFixedTypedVector
    else:
        return None
    if value.IsMap or not 0 < len(items) <= most:
        return None
    numbers = [item.Value for item in items if item.IsBool or item.IsInt or item.IsFloat]
    return numbers if len(numbers) == len(items) else None
