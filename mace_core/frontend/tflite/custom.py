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
    if found is None:
        return {"custom_options": list(content)}
    return {name: value for name, value in found.items() if _is_plain(value)}


def flexible_options(content: bytes) -> Mapping[str, Any] | None:
    """The map that a flexbuffer holds; None if it holds something else."""
    from flatbuffers import flexbuffers

    try:
        found = flexbuffers.Loads(content)
    except Exception:  # what it raises for other bytes is not documented
        return None
    return found if isinstance(found, dict) and all(isinstance(name, str) for name in found) else None


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and all(isinstance(item, int | float) for item in value)
    return isinstance(value, bool | int | float | str)
