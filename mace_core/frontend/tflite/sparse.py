"""Sparse tensors written out.

TensorFlow Lite stores a sparse tensor as a tree: one level for each dimension in the traversal order, dimensions of the
blocks at the end.  A dense level has all its indices; a sparse one has, for each node above, a segment of indices (as
the rows of CSR have).  This is the format of TACO (Kjolstad et al., The Tensor Algebra Compiler, 2017).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from mace_core.frontend.tflite.description import FileDimension, FileSparsity


def densified(values: npt.NDArray[Any], shape: tuple[int, ...], sparsity: FileSparsity) -> npt.NDArray[Any]:
    """The tensor with its zeros.

    Args:
        values: the stored elements, in the order of the traversal.
        shape: of the tensor.
        sparsity: how they are laid out.

    Raises:
        ValueError: if the description contradicts itself, the shape or the number of values.
    """
    rank, order, blocks = len(shape), sparsity.traversal_order, sparsity.block_map
    levels = rank + len(blocks)
    if sorted(order) != list(range(levels)) or len(sparsity.dimensions) != levels:
        raise ValueError(f"traversal order {list(order)} of {len(sparsity.dimensions)} dimensions for rank {rank}")
    if len(set(blocks)) != len(blocks) or any(not 0 <= axis < rank for axis in blocks):
        raise ValueError(f"block map {list(blocks)} for rank {rank}")
    sizes = _sizes(shape, sparsity)
    steps = _steps(shape, blocks, sizes)
    places = np.zeros(1, np.int64)
    # each node of a level leads to a value, or to a row of a sparse level, which may be empty
    most = max([values.size, *(dimension.segments.size for dimension in sparsity.dimensions)])
    for dimension, axis in zip(sparsity.dimensions, order, strict=True):
        places = _descended(places, dimension, sizes[axis], steps[axis], most)
    if places.size != values.size:
        raise ValueError(f"it holds {values.size} values in {places.size} places")
    dense = np.zeros(math.prod(shape), values.dtype)
    dense[places] = values
    return dense.reshape(shape)


def _sizes(shape: tuple[int, ...], sparsity: FileSparsity) -> list[int]:
    """How many indices each dimension has: those of the tensor counted in blocks, then those of a block."""
    sizes = list(shape)
    rank = len(shape)
    for position, axis in enumerate(sparsity.block_map):
        level = sparsity.traversal_order.index(rank + position)
        dimension = sparsity.dimensions[level]
        size = dimension.dense_size
        if dimension.is_sparse or size < 1 or shape[axis] % size:
            raise ValueError(f"blocks of {size} along an axis of {shape[axis]}")
        sizes.append(size)
        sizes[axis] //= size
    return sizes


def _steps(shape: tuple[int, ...], blocks: tuple[int, ...], sizes: list[int]) -> list[int]:
    """How far the flat place moves with one step of each dimension."""
    plain = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    steps = list(plain)
    for position, axis in enumerate(blocks):
        steps[axis] *= sizes[len(shape) + position]
        steps.append(plain[axis])
    return steps


def _descended(
    places: npt.NDArray[np.int64], dimension: FileDimension, size: int, step: int, most: int
) -> npt.NDArray[np.int64]:
    """The nodes of the next level below ``places``."""
    if not dimension.is_sparse:
        if dimension.dense_size != size:
            raise ValueError(f"a dense dimension of {dimension.dense_size} where the shape has {size}")
        if places.size * size > most:
            raise ValueError(f"it has {places.size * size:,} places for {most:,} values or rows")
        return (places[:, None] + np.arange(size, dtype=np.int64) * step).reshape(-1)
    segments, indices = dimension.segments, dimension.indices
    if segments.size != places.size + 1:
        raise ValueError(f"{segments.size} segment bounds for {places.size} rows")
    counts = np.diff(segments)
    if segments[0] != 0 or np.any(counts < 0) or segments[-1] != indices.size:
        raise ValueError("segments that do not cover the indices")
    if indices.size and (indices.min() < 0 or indices.max() >= size):
        raise ValueError(f"an index outside 0 to {size - 1}")
    return np.repeat(places, counts) + indices * step
