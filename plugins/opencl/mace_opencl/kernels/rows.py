"""Kernels in which a work-group goes through many elements together: reductions, softmax, normalization."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mace_opencl.kernels.copy import LOCAL, decompose, strided
from mace_opencl.program import Kernel, make_kernel

ROW_LOCAL = 64
"""Work-items that share a row."""

ROW_THRESHOLD = 32
"""Rows at least this long are worth a work-group of their own."""


@dataclass(frozen=True, slots=True)
class Reducer:
    """A reduction as C: what it starts with, how ``v`` goes into ``acc``, how two meet, what is stored for ``n``."""

    start: str
    take: str
    join: str
    finish: str = "acc"


REDUCERS: Mapping[str, Reducer] = {
    "ReduceSum": Reducer("0", "acc + v", "acc + v"),
    "ReduceMean": Reducer("0", "acc + v", "acc + v", "acc / (float)extent"),
    "ReduceProd": Reducer("1", "acc * v", "acc * v"),
    "ReduceMax": Reducer("-INFINITY", "v > acc || v != v ? v : acc", "v > acc || v != v ? v : acc"),
    "ReduceMin": Reducer("INFINITY", "v < acc || v != v ? v : acc", "v < acc || v != v ? v : acc"),
    "ReduceSumSquare": Reducer("0", "acc + v * v", "acc + v"),
    "ReduceL1": Reducer("0", "acc + fabs(v)", "acc + v"),
    "ReduceL2": Reducer("0", "acc + v * v", "acc + v", "sqrt(acc)"),
    "ReduceLogSum": Reducer("0", "acc + v", "acc + v", "log(acc)"),
}


def reduce_kernel(reducer: Reducer, kept: int, reduced: int, shared: bool) -> Kernel:
    """Reduce over ``reduced`` axes for each element of ``kept`` axes.

    Its parameters: input, result, then ints: number of results, elements per result; sizes of the kept axes, their
    strides (long), sizes of the reduced axes, their strides (long).  A work-group per result if ``shared``, else a
    work-item.
    """
    parameters = [("float*", "x"), ("float*=", "y"), ("int", "count"), ("int", "extent")]
    parameters += [("int", f"n{axis}") for axis in range(kept)] + [("long", f"s{axis}") for axis in range(kept)]
    parameters += [("int", f"m{axis}") for axis in range(reduced)] + [("long", f"r{axis}") for axis in range(reduced)]
    position = f"  x += {strided(kept, 's')};\n"
    inner = decompose(reduced, "e", "m", "d").replace("int rest", "int left").replace("rest", "left")
    take = f"{inner}    float v = x[{strided(reduced, 'r', 'd')}];\n    acc = {reducer.take};\n"
    if not shared:
        body = (
            f"  int i = get_global_id(0);\n  if (i >= count) return;\n{decompose(kept)}{position}"
            f"  float acc = {reducer.start};\n  for (int e = 0; e < extent; ++e) {{\n{take}  }}\n"
            f"  y[i] = {reducer.finish};\n"
        )
        return make_kernel("reduce", parameters, body, (LOCAL, 1, 1))
    body = (
        f"  int i = get_group_id(0), me = get_local_id(0);\n{decompose(kept)}{position}"
        f"  __local float parts[{ROW_LOCAL}];\n"
        f"  float acc = {reducer.start};\n  for (int e = me; e < extent; e += {ROW_LOCAL}) {{\n{take}  }}\n"
        + _tree("parts", reducer.join)
        + f"  if (me == 0) {{\n    acc = parts[0];\n    y[i] = {reducer.finish};\n  }}\n"
    )
    return make_kernel("reduce_row", parameters, body, (ROW_LOCAL, 1, 1))


def softmax_kernel(logarithm: bool) -> Kernel:
    """Softmax along a row; a work-group per row.

    Its parameters: input, result, ints: elements of a row, distance between them (the size of what is inside).
    """
    parameters = [("float*", "x"), ("float*=", "y"), ("int", "extent"), ("int", "inner")]
    last = "(x[e * (long)inner] - top) - log(sum)" if logarithm else "exp(x[e * (long)inner] - top) / sum"
    body = f"""
  int row = get_group_id(0), me = get_local_id(0);
  long start = (long)(row / inner) * extent * inner + row % inner;
  x += start;
  y += start;
  __local float parts[{ROW_LOCAL}];
  float acc = -INFINITY;
  for (int e = me; e < extent; e += {ROW_LOCAL}) {{
    float v = x[e * (long)inner];
    acc = v > acc || v != v ? v : acc;
  }}
{_tree("parts", "v > acc || v != v ? v : acc")}  float top = parts[0];
  barrier(CLK_LOCAL_MEM_FENCE);
  acc = 0.0f;
  for (int e = me; e < extent; e += {ROW_LOCAL}) acc += exp(x[e * (long)inner] - top);
{_tree("parts", "acc + v")}  float sum = parts[0];
  for (int e = me; e < extent; e += {ROW_LOCAL}) y[e * (long)inner] = {last};
"""
    return make_kernel("log_softmax" if logarithm else "softmax", parameters, body, (ROW_LOCAL, 1, 1))


def normalize_kernel(scaled: str, shifted: str) -> Kernel:
    """Mean 0, variance 1 along a dense row, then a scale and a shift; a work-group per row.

    Args:
        scaled, shifted: C for the position of scale and shift, over ``e`` (within the row), ``row`` and ``channels``;
            "" where there is none.

    Its parameters: input, scale and shift where there are such, result, ints: elements of a row, channels; epsilon.
    """
    parameters = [("float*", "x")]
    parameters += [("float*", name) for name, used in (("scale", scaled), ("shift", shifted)) if used]
    parameters += [("float*=", "y"), ("int", "extent"), ("int", "channels"), ("float", "epsilon")]
    value = "(x[e] - mean) * factor"
    value += f" * scale[{scaled}]" if scaled else ""
    value += f" + shift[{shifted}]" if shifted else ""
    body = f"""
  int row = get_group_id(0), me = get_local_id(0);
  x += (long)row * extent;
  y += (long)row * extent;
  __local float parts[{ROW_LOCAL}];
  float acc = 0.0f;
  for (int e = me; e < extent; e += {ROW_LOCAL}) acc += x[e];
{_tree("parts", "acc + v")}  float mean = parts[0] / (float)extent;
  barrier(CLK_LOCAL_MEM_FENCE);
  acc = 0.0f;
  for (int e = me; e < extent; e += {ROW_LOCAL}) {{
    float d = x[e] - mean;
    acc += d * d;
  }}
{_tree("parts", "acc + v")}  float factor = 1.0f / sqrt(parts[0] / (float)extent + epsilon);
  for (int e = me; e < extent; e += {ROW_LOCAL}) y[e] = {value};
"""
    return make_kernel("normalize", parameters, body, (ROW_LOCAL, 1, 1))


def _tree(parts: str, join: str) -> str:
    """The sums (or maxima) of all work-items meet in ``parts[0]``."""
    return f"""\
  {parts}[me] = acc;
  barrier(CLK_LOCAL_MEM_FENCE);
  for (int half_way = {ROW_LOCAL // 2}; half_way > 0; half_way >>= 1) {{
    if (me < half_way) {{
      float acc = {parts}[me], v = {parts}[me + half_way];
      {parts}[me] = {join};
    }}
    barrier(CLK_LOCAL_MEM_FENCE);
  }}
"""
