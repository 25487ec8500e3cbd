"""What a run hands to its caller."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mace_core.scheduler.values import RuntimeValue


def owned(result: RuntimeValue, fed: Sequence[npt.NDArray[Any]]) -> RuntimeValue:
    """A result that the caller may change without changing feeds (``fed``) or constants."""
    if isinstance(result, list):
        return [owned(item, fed) for item in result]
    if isinstance(result, np.ndarray):
        if type(result) is np.ndarray and result.base is None and result.flags.writeable:
            return result  # what is fed is a view, or was made for the run
        shared = not result.flags.writeable or any(np.may_share_memory(array, result) for array in fed)
        return result.copy() if shared else result
    return result


def arrays_of(values: Sequence[RuntimeValue]) -> list[npt.NDArray[Any]]:
    """All arrays among values, those in sequences included."""
    found: list[npt.NDArray[Any]] = []
    for value in values:
        if isinstance(value, np.ndarray):
            found.append(value)
        elif isinstance(value, list):
            found += arrays_of(value)
    return found
