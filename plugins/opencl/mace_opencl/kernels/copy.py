"""Kernels that move elements without looking at them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mace_opencl.program import Kernel, make_kernel

LOCAL = 128
"""Work-items in a group of the kernels that take one element each."""

WORDS = {1: "uchar", 2: "ushort", 4: "uint", 8: "ulong"}
"""An integer type of each element size."""


def flat_groups(count: int) -> tuple[int, int, int]:
    """Work-groups that cover ``count`` elements."""
    return (-(-count // LOCAL), 1, 1)


def decompose(rank: int, index: str = "i", dims: str = "n", prefix: str = "c") -> str:
    """Statements that take the linear ``index`` apart into ``c0 …`` along dimensions ``n0 …`` (int variables)."""
    lines = [f"  int rest = {index};\n"] if rank > 1 else []
    for axis in range(rank - 1, 0, -1):
        lines.append(f"  int {prefix}{axis} = rest % {dims}{axis}; rest /= {dims}{axis};\n")
    if rank:
        lines.append(f"  int {prefix}0 = {'rest' if rank > 1 else index};\n")
    return "".join(lines)


def strided(rank: int, strides: str, prefix: str = "c") -> str:
    """The position of coordinates ``c0 …`` under strides ``s0 …`` (long variables)."""
    return " + ".join(f"{prefix}{axis} * {strides}{axis}" for axis in range(rank)) or "0"


def copy_kernel(
    itemsize: int,
    shape: Sequence[int],
    source: Sequence[int],
    target: Sequence[int],
    source_at: int = 0,
    target_at: int = 0,
) -> tuple[Kernel, tuple[int, int, int], tuple[int, ...]]:
    """``target[target_at + c · target strides] = source[source_at + c · source strides]`` for all c in ``shape``.

    Returns:
        The kernel, its groups, and its scalar arguments (which follow the source and the target buffer).
    """
    shape, (source, target) = merge_axes(shape, source, target)
    rank = len(shape)
    parameters = [
        (f"{WORDS[itemsize]}*", "x"),
        (f"{WORDS[itemsize]}*=", "y"),
        ("int", "count"),
        ("long", "xs"),
        ("long", "ys"),
    ]
    parameters += [("int", f"n{axis}") for axis in range(rank)]
    parameters += [("long", f"s{axis}") for axis in range(rank)] + [("long", f"t{axis}") for axis in range(rank)]
    body = (
        "  int i = get_global_id(0);\n  if (i >= count) return;\n"
        + decompose(rank)
        + f"  y[ys + {strided(rank, 't')}] = x[xs + {strided(rank, 's')}];\n"
    )
    count = math.prod(shape)
    kernel = make_kernel(f"copy{itemsize}", parameters, body, (LOCAL, 1, 1))
    return kernel, flat_groups(count), (count, source_at, target_at, *shape, *source, *target)


def merge_axes(shape: Sequence[int], *strides: Sequence[int]) -> tuple[tuple[int, ...], tuple[tuple[int, ...], ...]]:
    """The same walk with as few axes as possible: those of size one dropped, those that follow each other joined.

    Returns:
        The sizes, and for each of ``strides`` the strides that belong to them.
    """
    merged: list[tuple[int, tuple[int, ...]]] = []
    for axis, size in enumerate(shape):
        if size == 1:
            continue
        steps = tuple(stride[axis] for stride in strides)
        if merged:
            before, outer = merged[-1]
            if all(wide == narrow * size for wide, narrow in zip(outer, steps, strict=True)):
                merged[-1] = (before * size, steps)
                continue
        merged.append((size, steps))
    if not merged:
        merged = [(1, tuple(0 for _ in strides))]
    return tuple(size for size, _ in merged), tuple(tuple(steps[i] for _, steps in merged) for i in range(len(strides)))


def row_major(shape: Sequence[int]) -> tuple[int, ...]:
    """Strides, in elements, of a dense tensor."""
    strides = [1] * len(shape)
    for axis in range(len(shape) - 2, -1, -1):
        strides[axis] = strides[axis + 1] * shape[axis + 1]
    return tuple(strides)


def broadcast_strides(shape: Sequence[int], target: Sequence[int]) -> tuple[int, ...]:
    """Strides that walk a dense tensor of ``shape`` as if it had the ``target`` shape."""
    padded = (1,) * (len(target) - len(shape)) + tuple(shape)
    return tuple(0 if size == 1 else stride for size, stride in zip(padded, row_major(padded), strict=True))
