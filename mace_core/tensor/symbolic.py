"""Small integers that follow from the shapes of a run, as expressions."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from mace_core.symbolic import is_symbolic
from mace_core.tensor.dtype import DType
from mace_core.tensor.tensor import Tensor


class SymbolicTensor(Tensor):
    """What shape arithmetic computes from sizes that are not decided.

    Who reads it as numbers gets those of the shapes at hand, and what is made of them serves no others
    (`mace_core.symbolic.SymbolicInt`); `tolist` gives the expressions.
    """

    __slots__ = ("_elements",)

    def __init__(self, dtype: DType, elements: npt.NDArray[Any]) -> None:
        """``elements``: an object array of integers, some of them symbolic."""
        self.dtype = dtype
        self.shape = elements.shape
        self.source = None
        self._elements = elements

    @property
    def elements(self) -> npt.NDArray[Any]:
        """An object array of integers, some of them symbolic."""
        return self._elements

    @property
    def nbytes(self) -> int:
        return self.dtype.nbytes(self.size)

    @property
    def payload(self) -> npt.NDArray[Any]:
        return self.numpy().reshape(-1).view(np.uint8)

    def numpy(self) -> npt.NDArray[Any]:
        return concrete(self._elements).astype(self.dtype.numpy)

    def tolist(self) -> list[Any]:
        return list(self._elements.reshape(-1))


def elements_of(tensor: Tensor) -> npt.NDArray[Any]:
    """The content as numbers, or as objects where some of it is symbolic."""
    return tensor.elements if isinstance(tensor, SymbolicTensor) else tensor.numpy()


def concrete(elements: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The numbers for the shapes at hand."""
    if elements.dtype != object:
        return elements
    items = [float(item) if _is_float(item) else int(item) for item in elements.reshape(-1)]
    return np.array(items).reshape(elements.shape)


def _is_float(item: object) -> bool:
    return isinstance(item, float | np.floating) or (is_symbolic(item) and not isinstance(item, int))


def as_objects(items: list[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """An object array; numpy makes none of sizes by itself that it would not take for sequences."""
    found = np.empty(len(items), object)
    for index, item in enumerate(items):
        found[index] = item
    return found.reshape(shape)


def simplified(elements: npt.NDArray[Any], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """The array as numbers where nothing in it is symbolic."""
    if elements.dtype == object and not any(is_symbolic(item) for item in elements.reshape(-1)):
        return elements.astype(dtype)
    return elements
