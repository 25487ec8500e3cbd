"""Kernels that look up where each element comes from: gathering, padding, resampling."""

from __future__ import annotations

from collections.abc import Sequence

from mace_opencl.kernels.copy import LOCAL, WORDS, decompose, strided
from mace_opencl.program import Kernel, make_kernel


def gather_kernel(itemsize: int, index_type: str) -> Kernel:
    """``y[o, i, n] = x[o, indices[i], n]``; an index out of range gives the nearest element.

    Its parameters: data, indices, result, ints: number of results, size of the axis, indices, elements inside.
    """
    parameters = [(f"{WORDS[itemsize]}*", "x"), (f"{index_type}*", "indices"), (f"{WORDS[itemsize]}*=", "y")]
    parameters += [("int", name) for name in ("count", "extent", "chosen", "inner")]
    body = """\
  int i = get_global_id(0);
  if (i >= count) return;
  int within = i % inner, which = i / inner % chosen, outer = i / inner / chosen;
  long index = indices[which];
  index = clamp(index < 0 ? index + extent : index, 0L, (long)extent - 1);
  y[i] = x[((long)outer * extent + index) * inner + within];
"""
    return make_kernel(f"gather{itemsize}", parameters, body, (LOCAL, 1, 1))


def lookup_kernel(itemsize: int, rank: int, filled: bool) -> Kernel:
    """Each coordinate of the result is looked up in its axis' table; a negative entry means "outside" (``filled``).

    Its parameters: data, the tables one after another, the fill (a buffer of one element) if there is one, result,
    ints: number of results, sizes of the result, starts of the tables; longs: strides of the source.
    """
    parameters = [(f"{WORDS[itemsize]}*", "x"), ("int*", "tables")]
    parameters += [(f"{WORDS[itemsize]}*", "fill")] if filled else []
    parameters += [(f"{WORDS[itemsize]}*=", "y"), ("int", "count")]
    parameters += [("int", f"n{axis}") for axis in range(rank)] + [("int", f"b{axis}") for axis in range(rank)]
    parameters += [("long", f"s{axis}") for axis in range(rank)]
    looked_up = "".join(f"  int k{axis} = tables[b{axis} + c{axis}];\n" for axis in range(rank))
    value = f"x[{strided(rank, 's', 'k')}]"
    if filled:
        value = f"({' || '.join(f'k{axis} < 0' for axis in range(rank))}) ? fill[0] : {value}"
    body = f"  int i = get_global_id(0);\n  if (i >= count) return;\n{decompose(rank)}{looked_up}  y[i] = {value};\n"
    return make_kernel(f"lookup{itemsize}", parameters, body, (LOCAL, 1, 1))


def blend_kernel(rank: int, blended: Sequence[int]) -> Kernel:
    """Linear resampling along the axes ``blended``: two neighbors each, with a weight for the second.

    Its parameters: data, tables of first neighbors, of second ones, of weights, result, ints: number of results, sizes
    of the result, starts of the tables; longs: strides of the source.
    """
    parameters = [("float*", "x"), ("int*", "low"), ("int*", "high"), ("float*", "weights"), ("float*=", "y")]
    parameters += [("int", "count")] + [("int", f"n{axis}") for axis in range(rank)]
    parameters += [("int", f"b{axis}") for axis in range(rank)] + [("long", f"s{axis}") for axis in range(rank)]
    lines = []
    fixed = [f"low[b{axis} + c{axis}] * s{axis}" for axis in range(rank) if axis not in blended]
    lines.append(f"  x += {' + '.join(fixed) or '0'};\n")
    for axis in blended:
        lines.append(
            f"  long l{axis} = low[b{axis} + c{axis}] * s{axis}, h{axis} = high[b{axis} + c{axis}] * s{axis};\n"
        )
        lines.append(f"  float w{axis} = weights[b{axis} + c{axis}];\n")
    value = _blend(list(blended), [])
    body = (
        f"  int i = get_global_id(0);\n  if (i >= count) return;\n{decompose(rank)}{''.join(lines)}  y[i] = {value};\n"
    )
    return make_kernel("blend", parameters, body, (LOCAL, 1, 1))


def _blend(axes: list[int], chosen: list[str]) -> str:
    if not axes:
        return f"x[{' + '.join(chosen) or '0'}]"
    axis, rest = axes[0], axes[1:]
    low, high = _blend(rest, [*chosen, f"l{axis}"]), _blend(rest, [*chosen, f"h{axis}"])
    return f"((1.0f - w{axis}) * {low} + w{axis} * {high})"
