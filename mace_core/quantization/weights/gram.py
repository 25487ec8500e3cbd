"""Second moments of a layer's inputs: all that a method that minimizes the error of a linear layer needs of the data.

For weights ``W`` and inputs ``x`` the squared error of a result is ``d G dᵀ`` with ``G`` the sum of ``x xᵀ`` and ``d``
the change of a row of weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from mace_core.errors import UsageError, shorten
from mace_core.graph import Node, sliding_window

Array: TypeAlias = npt.NDArray[Any]

GRAM_BYTES = 1 << 29
"""Memory that the matrices of one pass over the data may take."""

POSITIONS = 256
"""Places of one sample at which the inputs of a convolution are looked at; neighbors tell nearly the same."""


class Gram:
    """Sums over the inputs of one layer, which may be fed in parts and merged.

    Attributes:
        name: of the layer, for messages.
        matrices: (groups, inputs, inputs) float64: sums of ``x xᵀ``.
        sums: (groups, inputs): sums of ``x``.
        magnitudes: (groups, inputs): sums of ``|x|``.
        rows: how many inputs were seen.
    """

    def __init__(self, name: str, groups: int, inputs: int) -> None:
        self.name = name
        self.matrices: Array = np.zeros((groups, inputs, inputs))
        self.sums: Array = np.zeros((groups, inputs))
        self.magnitudes: Array = np.zeros((groups, inputs))
        self.rows = 0

    def update(self, rows: Array) -> None:
        """Take in inputs, (groups, any, inputs), or (any, inputs) where there is one group.

        Raises:
            UsageError: if their shape is another, or one is not finite.
        """
        groups, inputs = self.sums.shape
        found = np.asarray(rows, np.float32)
        if found.ndim == 2:
            found = found[None]
        if found.ndim != 3 or found.shape[0] != groups or found.shape[2] != inputs:
            raise UsageError(
                f"layer '{shorten(self.name)}' takes rows of {inputs} numbers in {groups} groups; "
                f"calibration gave an array of shape {list(np.shape(rows))}"
            )
        products = np.matmul(found.transpose(0, 2, 1), found)  # a batch is short enough for float32
        if not np.isfinite(products).all():
            raise UsageError(
                f"an input of layer '{shorten(self.name)}' is NaN, infinite or too large in calibration; mend the "
                "data, or exclude the layer"
            )
        self.matrices += products
        self.sums += found.sum(axis=1, dtype=np.float64)
        self.magnitudes += np.abs(found).sum(axis=1, dtype=np.float64)
        self.rows += found.shape[1]

    def merge(self, other: Gram) -> None:
        """Take in what another of the same layer has seen."""
        self.matrices += other.matrices
        self.sums += other.sums
        self.magnitudes += other.magnitudes
        self.rows += other.rows

    def means(self) -> Array:
        """(groups, inputs): the mean input; zeros where none was seen."""
        return np.asarray(self.sums / max(self.rows, 1))

    def centered(self) -> Array:
        """(groups, inputs, inputs): sums of ``x xᵀ`` about the mean input: the error where biases make up for means."""
        about = self.matrices - self.sums[:, :, None] * (self.sums[:, None, :] / max(self.rows, 1))
        diagonal = np.einsum("gii->gi", about)
        np.maximum(diagonal, 0.0, out=diagonal)  # what rounding of float64 leaves of a constant input
        return np.asarray(about)


def check_gram(gram: Array, weights: Array) -> None:
    """
    Raises:
        UsageError: if a Gram matrix does not fit the weights, (results, inputs), or is not finite.
    """
    inputs = weights.shape[1]
    if gram.shape != (inputs, inputs) or not np.isfinite(gram).all():
        raise UsageError(
            f"A Gram matrix of shape {list(gram.shape)} does not describe finite inputs of weights of shape "
            f"{list(weights.shape)}"
        )


def squared_error(change: Array, matrix: Array) -> float:
    """The sum of squared errors of all results for a change of the weights, (results, inputs)."""
    change = np.asarray(change, np.float64)
    return float(np.einsum("ij,ij->", change @ matrix, change))


def rows_read(node: Node, kernel: Sequence[int], groups: int, x: Array, positions: int = POSITIONS) -> Array:
    """What a Conv, Gemm or MatMul with constant weights multiplies these with when it reads ``x``.

    Args:
        kernel: of a Conv; of no matter for the others.
        positions: of a Conv: the most places of one image that are looked at.

    Returns:
        (groups, rows, inputs).
    """
    if node.op_type != "Conv":
        return x.reshape(1, -1, x.shape[-1])
    window = sliding_window(node, x.shape[2:], kernel)
    return patches(
        x,
        kernel,
        strides=window.strides,
        dilations=window.dilations,
        pads=(*window.begins, *window.ends),
        group=groups,
        positions=positions,
    )


def patches(
    images: Array,
    kernel: Sequence[int],
    *,
    strides: Sequence[int],
    dilations: Sequence[int],
    pads: Sequence[int],
    group: int,
    positions: int = POSITIONS,
) -> Array:
    """What a convolution multiplies its weights with: (group, rows, channels of a group times kernel elements).

    The rows are evenly spaced places of the result, the same of each image; the order within a row is that of
    convolution weights, (channel, *kernel).

    Args:
        images: (N, C, *spatial).
        kernel, strides, dilations: one number for each spatial axis.
        pads: of Conv: all begins, then all ends.
        positions: the most places of one image.
    """
    count, channels, *sizes = images.shape
    rank = len(kernel)
    outputs = [
        (size + pads[at] + pads[at + rank] - dilations[at] * (kernel[at] - 1) - 1) // strides[at] + 1
        for at, size in enumerate(sizes)
    ]
    total = int(np.prod(outputs))
    if count == 0 or min(outputs, default=1) <= 0:
        return np.zeros((group, 0, channels // group * int(np.prod(kernel))), np.float32)
    taken = np.unique(np.linspace(0, total - 1, min(total, positions)).astype(np.int64))
    padded = np.pad(images, [(0, 0), (0, 0), *((pads[at], pads[at + rank]) for at in range(rank))])
    offsets = np.indices(kernel).reshape(rank, -1)  # (rank, K)
    places = np.array(np.unravel_index(taken, outputs)).reshape(rank, -1)  # (rank, P)
    index = tuple(
        places[at][:, None] * strides[at] + offsets[at][None, :] * dilations[at] for at in range(rank)
    )  # each (P, K)
    found = padded[(slice(None), slice(None), *index)]  # (N, C, P, K)
    by_group = found.reshape(count, group, channels // group, len(taken), -1)
    return by_group.transpose(1, 0, 3, 2, 4).reshape(group, count * len(taken), -1)


class HasGram(Protocol):
    """A layer whose inputs are to be seen."""

    @property
    def gram_bytes(self) -> int:
        """Memory that its matrices take."""
        ...


L = TypeVar("L", bound=HasGram)


def in_passes(layers: Iterable[L], most_bytes: int = GRAM_BYTES) -> Iterator[list[L]]:
    """Layers in sets whose matrices fit into memory together; a single one may be larger."""
    current: list[L] = []
    total = 0
    for layer in layers:
        if current and total + layer.gram_bytes > most_bytes:
            yield current
            current, total = [], 0
        current.append(layer)
        total += layer.gram_bytes
    if current:
        yield current
