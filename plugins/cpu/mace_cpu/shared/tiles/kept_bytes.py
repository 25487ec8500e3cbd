"""Bytes of the left operand that meet no weight but zero, left out where bytes are multiplied four at a time.

A quad takes four neighboring bytes of a row in one load, so bytes cannot be left out one by one as steps of floats can.
Instead those that meet weights are gathered into rows of their own, window by window with one permutation each, before
a tile multiplies them.  All channels of a tile must have their zeros at the same places; which places is no matter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mace_core.native.target import Target
from mace_cpu.shared.quads import QUAD
from mace_cpu.shared.tiles.arguments import MOST_KEPT
from mace_cpu.shared.tiles.kept import Bools, KeptSteps

GATHER_CYCLES = 3.0
"""For a window: a load, a permutation, a store."""

LEAST_ROW_BYTES = 512
APART = 64
"""Rows of gathered bytes lie so far apart beyond a power of two, lest they meet in one set of a cache."""


@dataclass(frozen=True, slots=True)
class KeptBytes:
    """Which bytes of each run are kept, and how they are gathered.

    Attributes:
        order: (..., kept), ascending: the same number, of whole quads, for each run.
        run: bytes of a run.
        window: bytes that one permutation takes.
        indices: int8 (..., gathers, window): which byte of the window each byte of the result is.
        places: int32 (..., gathers, 2): where in the run a window begins, and where its bytes go.  Gathers follow each
            other by where they go, and each may write more than what is kept.
        most_of_window: the most bytes that are kept of one window.
    """

    order: npt.NDArray[np.int64]
    run: int
    window: int
    indices: npt.NDArray[np.int8]
    places: npt.NDArray[np.int32]
    most_of_window: int

    @property
    def count(self) -> int:
        """How many bytes of a run are kept."""
        return int(self.order.shape[-1])

    @property
    def gathers(self) -> int:
        """Permutations per run."""
        return int(self.places.shape[-2])

    @property
    def share(self) -> float:
        """How much of a run is kept."""
        return self.count / self.run

    @property
    def note(self) -> str:
        """What explanations say of a step that multiplies only these."""
        return f"sparse, {self.share:.0%} of the products"

    @property
    def stored(self) -> int:
        """Bytes of a permutation's result that are stored: half of them where no window keeps more."""
        return self.window // 2 if self.most_of_window <= self.window // 2 else self.window

    @property
    def row_bytes(self) -> int:
        """From row to row of gathered bytes: one of few numbers, as it is part of the code."""
        size = LEAST_ROW_BYTES
        while size < self.count + self.window:
            size *= 2
        return size + APART

    def of_rows(self, rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """What is kept of weights (..., run, columns)."""
        return np.take_along_axis(rows, self.order[..., None], axis=-2)


def window_bytes(target: Target, run: int) -> int:
    """How many of a run's bytes one instruction of a target permutes; 0: there is none, or the run is too short."""
    sizes: list[int] = []
    if target.has("avx512vbmi") and target.vector_bits == 512:
        sizes = [64, 32]
    if target.has("ssse3") or target.architecture == "aarch64":
        sizes.append(16)
    return next((size for size in sizes if size <= run), 0)


def kept_bytes(used: Bools, window: int) -> KeptBytes | None:
    """What is kept of runs (..., run) of which ``used`` says which bytes meet weights; None where it is too much."""
    steps, run = KeptSteps.of(used), used.shape[-1]
    count = -(-steps.count // QUAD) * QUAD
    if count > MOST_KEPT * run:
        return None
    order = np.sort(np.argsort(~used, axis=-1, kind="stable")[..., :count], axis=-1)
    flat = order.reshape(-1, count)
    gathers = [_gathers(row, run, window) for row in flat]
    most = max(len(found) for found in gathers)
    widest = max(last - first for found in gathers for _, first, last in found)
    indices = np.zeros((len(flat), most, window), np.int8)
    places = np.zeros((len(flat), most, 2), np.int32)
    for number, (row, found) in enumerate(zip(flat, gathers, strict=True)):
        found = [*found, *found[-1:] * (most - len(found))]
        for at, (source, first, last) in enumerate(found):
            indices[number, at, : last - first] = row[first:last] - source
            places[number, at] = source, first
    outer = used.shape[:-1]
    by_run = indices.reshape(*outer, most, window), places.reshape(*outer, most, 2)
    return KeptBytes(order, run, window, *by_run, widest)


def _gathers(order: npt.NDArray[np.int64], run: int, window: int) -> list[tuple[int, int, int]]:
    """(Where a window begins in the run, the first byte kept of it, the one behind its last): none skips a byte."""
    found, first = [], 0
    while first < len(order):
        source = min(int(order[first]) // window * window, run - window)
        last = int(np.searchsorted(order, source + window))
        found.append((source, first, last))
        first = last
    return found
