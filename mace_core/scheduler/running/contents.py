"""Values whose content decides shapes: nobody may change them while a plan is chosen and run."""

from __future__ import annotations

import numpy as np

from mace_core.errors import InputError
from mace_core.scheduler.running.imports import is_opaque
from mace_core.scheduler.values import RuntimeValue


def is_plain(value: RuntimeValue) -> bool:
    """Whether ``value`` is numbers in memory: only of those does the content decide shapes."""
    return isinstance(value, np.ndarray | np.generic) and value.dtype != object


def frozen(value: RuntimeValue) -> RuntimeValue:
    """A copy that cannot be written to, made in one pass.

    Raises:
        InputError: if it lies in the memory of a device.
    """
    if not is_plain(value):
        return value
    if is_opaque(value):
        raise InputError(
            "an input whose content decides shapes lies in the memory of a device; copy it to the host first"
        )
    return np.ndarray(value.shape, value.dtype, value.tobytes())
