"""LabelEncoder as a table: for texts, which no device holds, and for tables too large to compare with every key."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from mace_core.errors import ModelError
from mace_core.graph import Node
from mace_core.tensor import DType

LABEL_ENCODER = ("ai.onnx.ml", "LabelEncoder")

NAN_IS_A_KEY_SINCE = 4
"""Before, NaN found no key, as in onnxruntime."""

SIDES_SINCE = 2
"""Before, the operator turned places in a list of texts into the texts, and the other way round."""

Array = npt.NDArray[Any]


def has_texts(node: Node) -> bool:
    """Whether keys or values are texts."""
    for side in ("keys", "values"):
        tensor = node.attr(f"{side}_tensor")
        if node.attr(f"{side}_strings") is not None or (tensor is not None and tensor.dtype is DType.STRING):
            return True
    return node.attr("classes_strings") is not None


class LabelTable:
    """The values of keys; the first of equal keys counts."""

    def __init__(self, node: Node, opset: int) -> None:
        """``opset``: the version of the operator's domain.

        Raises:
            ModelError: if keys and values do not fit each other.
        """
        if opset < SIDES_SINCE:
            texts = np.array([_text(item) for item in node.attr("classes_strings") or ()], object)
            places = np.arange(len(texts), dtype=np.int64)
            self._tables = [
                _Table(texts, places, np.int64(node.attr("default_int64", -1))),
                _Table(places, texts, _text(node.attr("default_string", "_Unused"))),
            ]
            return
        keys, values = _side(node, "keys"), _side(node, "values")
        if keys is None or values is None or keys.size != values.size:
            raise ModelError(f"node '{node.name}' (LabelEncoder): it needs as many keys as values")
        finds_nan = opset >= NAN_IS_A_KEY_SINCE
        self._tables = [_Table(keys, values, _default(node, values), finds_nan=finds_nan)]

    def translate(self, data: Array) -> Array:
        """The value of each element, or else the default, in the shape of ``data``."""
        table = next((t for t in self._tables if (t.keys.dtype == object) == (data.dtype == object)), self._tables[0])
        return table.translate(data)


class _Table:
    def __init__(self, keys: Array, values: Array, default: Any, *, finds_nan: bool = False) -> None:
        self.keys = keys
        self._values = values
        self._default = default
        self._place: dict[Any, int] = {}
        self._place_of_nan: int | None = None
        for place, key in enumerate(keys.tolist()):
            if key != key:
                if finds_nan and self._place_of_nan is None:
                    self._place_of_nan = place
            else:
                self._place.setdefault(key, place)

    def translate(self, data: Array) -> Array:
        found = np.empty(data.size, self._values.dtype)
        for index, item in enumerate(data.reshape(-1).tolist()):
            place = self._place.get(item) if item == item else self._place_of_nan
            found[index] = self._default if place is None else self._values[place]
        return found.reshape(data.shape)


def _side(node: Node, side: str) -> Array | None:
    tensor = node.attr(f"{side}_tensor")
    if tensor is not None:
        content: Array = tensor.numpy().reshape(-1)
        return content
    for kind, dtype in (("strings", object), ("int64s", np.int64), ("floats", np.float32)):
        given = node.attr(f"{side}_{kind}")
        if given is not None:
            return np.array([_text(item) for item in given] if dtype is object else given, dtype)
    return None


def _default(node: Node, values: Array) -> Any:
    tensor = node.attr("default_tensor")
    if tensor is not None and tensor.size:
        return tensor.numpy().reshape(-1)[0]
    if values.dtype == object:
        return _text(node.attr("default_string", "_Unused"))
    if values.dtype.kind == "i":
        return node.attr("default_int64", -1)
    return node.attr("default_float", -0.0)


def _text(item: Any) -> Any:
    return item.decode() if isinstance(item, bytes) else item
