"""Where the families register their forms, and the arrays and names these are made of."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from mace_core.testing.cases import OPSET, Case
from mace_core.testing.forms.covering import Row, covering

Array: TypeAlias = npt.NDArray[Any]
Maker: TypeAlias = Callable[[str], Iterator[Case]]

MAKERS: dict[str, list[Maker]] = {}
"""Operator -> what makes its forms."""


def forms_of(*op_types: str) -> Callable[[Maker], Maker]:
    """Register a generator of forms of these operators; it is called with the operator's name."""

    def register(maker: Maker) -> Maker:
        for op_type in op_types:
            MAKERS.setdefault(op_type, []).append(maker)
        return maker

    return register


def rows(
    *, alone: Collection[str] = (), allowed: Callable[[Row], bool] = lambda row: True, **choices: Sequence[Any]
) -> Iterator[tuple[Row, dict[str, Any]]]:
    """Covering rows of the choices (see `covering`), each with what in it is not the first value."""
    for row in covering(choices, alone=alone, allowed=allowed):
        yield row, {name: value for name, value in row.items() if not _is_same(value, choices[name][0])}


def _is_same(a: Any, b: Any) -> bool:
    return type(a) is type(b) and bool(a == b)


def form(
    op_type: str,
    inputs: Sequence[Array | None],
    traits: Mapping[str, Any],
    *,
    constants: Iterable[int] = (),
    attributes: Mapping[str, Any] | None = None,
    outputs: int = 1,
    opset: int = OPSET,
    needs_precision: bool = False,
) -> Case:
    """One form, named after what is particular about it.  Attributes that are None are left out."""
    given = {name: value for name, value in (attributes or {}).items() if value is not None}
    if opset != OPSET:
        traits = {"opset": opset, **traits}
    words = ", ".join(f"{name}={_text(value)}" for name, value in traits.items()) or "plain"
    fixed = frozenset(place for place in constants if place < len(inputs) and inputs[place] is not None)
    return Case(f"{op_type} with {words}", op_type, inputs, fixed, given, outputs, opset, dict(traits), needs_precision)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else str(value)


# --- arrays -----------------------------------------------------------------------------------------------------------


def values(shape: Sequence[int], dtype: str = "float32", seed: int = 0, low: float = -2.0, high: float = 2.0) -> Array:
    """Numbers that are all different where that is likely, whole ones within the type's range for whole types."""
    random = np.random.default_rng([seed, len(shape), *shape])
    kind = np.dtype(dtype)
    if kind.kind == "b":
        return np.asarray(random.random(shape) > 0.5)
    if kind.kind in "iu":
        limits = np.iinfo(kind)
        return random.integers(max(limits.min, -100), min(limits.max, 100), shape, endpoint=True).astype(kind)
    return np.asarray(random.uniform(low, high, shape), kind)


def on_a_grid(array: Array) -> Array:
    """Floats moved to the nearest number that half precision holds exactly; up to 8 in either direction."""
    return np.asarray(np.rint(array * 128) / 128, array.dtype) if array.dtype.kind == "f" else array


def sized(shape: Sequence[int], dtype: str, magnitude: float, seed: int = 0) -> Array:
    """Whole numbers up to ``magnitude`` in both directions, which half precision holds exactly up to 2048."""
    random = np.random.default_rng([seed, 99, *shape])
    return np.asarray(np.rint(random.uniform(-magnitude, magnitude, shape)), dtype)


def ints(*numbers: int) -> Array:
    """A vector of int64."""
    return np.array(numbers, np.int64)
