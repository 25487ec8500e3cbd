"""Values as what JSON has.

JSON has no NaN and no infinities: they become the strings "NaN", "Infinity" and "-Infinity", as in the JSON form of
protocol buffers; Python's ``float`` and JavaScript's ``Number`` take them.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from enum import Enum
from typing import Any


def json_value(value: Any) -> Any:
    """``value`` made of null, booleans, numbers, strings, lists and objects; what is none of them as its text."""
    if value is None or (isinstance(value, str | bool | int) and not isinstance(value, Enum)):
        return value
    if isinstance(value, Enum):
        return json_value(value.value)
    if isinstance(value, float):
        return value if math.isfinite(value) else "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {str(key): json_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [json_value(item) for item in (sorted(value) if isinstance(value, set | frozenset) else value)]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "tolist"):  # arrays and scalars of numpy
        return json_value(value.tolist())
    return str(value)
