"""Grouped convolutions whose groups are no whole blocks of channels: neighbours are merged until they are.

The weights between merged groups are zeros, so it takes a multiple of the arithmetic, which the generated kernel makes
up for.  As everywhere where a zero stands for nothing, an infinity or NaN in the input does not stay within its group.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mace_cpu.lowering.conv_direct import Floats
from mace_cpu.lowering.conv_geometry import Geometry

MOST_MERGED = 16
"""Beyond this the plain kernel is as fast."""


def merged_count(geometry: Geometry, block: int) -> int:
    """How many neighbouring groups to merge into one; 0 where that does not pay."""
    for count in range(2, min(geometry.groups, MOST_MERGED) + 1):
        if geometry.groups % count:
            continue
        whole = (count * geometry.group_in) % block == 0 and (count * geometry.group_out) % block == 0
        if whole or count == geometry.groups:
            return count
    return 0


def merge_groups(geometry: Geometry, weights: Floats, count: int) -> tuple[Geometry, Floats]:
    """The convolution with ``count`` groups at a time made one; weights (O, C / groups, ...)."""
    merged = geometry.groups // count
    apart = weights.reshape(merged, count, geometry.group_out, geometry.group_in, *geometry.kernel)
    full = np.zeros((merged, count, geometry.group_out, count, geometry.group_in, *geometry.kernel), np.float32)
    for i in range(count):
        full[:, i, :, i] = apart[:, i]
    dense = full.reshape(geometry.out_channels, count * geometry.group_in, *geometry.kernel)
    return replace(geometry, groups=merged), dense
