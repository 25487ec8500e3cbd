"""Copies into tensors of a larger shape, and out of them."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt


def pad_into(source: npt.NDArray[Any], target: npt.NDArray[Any]) -> None:
    """Copy ``source`` to the first positions of ``target`` along every axis, and its last ones to all others.

    ``target`` has as many axes, of the same or larger sizes; ``source`` is not empty.
    """
    target[tuple(slice(size) for size in source.shape)] = source
    for axis, size in enumerate(source.shape):
        if target.shape[axis] > size:
            # along the axes before this one all positions are filled; along those behind it the first ones
            before = (slice(None),) * axis
            behind = tuple(slice(size) for size in source.shape[axis + 1 :])
            target[(*before, slice(size, None), *behind)] = target[(*before, slice(size - 1, size), *behind)]


def cut_into(source: npt.NDArray[Any], target: npt.NDArray[Any]) -> None:
    """Copy the first positions of ``source`` along every axis to ``target``."""
    target[...] = source[tuple(slice(size) for size in target.shape)]
