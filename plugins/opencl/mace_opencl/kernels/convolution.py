"""Convolutions: patches as an operand of the tiled product; direct kernels for depthwise ones and small groups."""

from __future__ import annotations

from collections.abc import Sequence

from mace_opencl.kernels.copy import LOCAL
from mace_opencl.kernels.gemm import Operand
from mace_opencl.program import UNROLL, Kernel, make_kernel

Pair = tuple[int, int]


def patches_operand(kernel: Pair, strides: Pair, dilations: Pair) -> Operand:
    """B[k, column]: k runs over (input channel, kernel row, kernel column), columns over output pixels.

    Its scalar arguments: input height and width, output width, top and left padding, strides of batch and group.
    """
    high, wide = kernel
    area = high * wide
    return Operand(
        (
            ("float*", "b"), ("int", "in_h"), ("int", "in_w"), ("int", "out_w"), ("int", "pad_h"), ("int", "pad_w"),
            ("long", "b_batch0"), ("long", "b_batch1"),
        ),
        "  b += batch0 * b_batch0 + batch1 * b_batch1;\n",
        f"""\
        int channel = k / {area}, tap = k % {area};
        int py = column / out_w, px = column % out_w;
        int iy = py * {strides[0]} - pad_h + (tap / {wide}) * {dilations[0]};
        int ix = px * {strides[1]} - pad_w + (tap % {wide}) * {dilations[1]};
        int inside = iy >= 0 && iy < in_h && ix >= 0 && ix < in_w;
""",
        "inside ? b[((long)channel * in_h + iy) * in_w + ix] : 0.0f",
        False,
    )  # fmt: skip


def direct_kernel(
    hint: str,
    kernel: Pair,
    strides: Pair,
    dilations: Pair,
    epilogue_parameters: Sequence[tuple[str, str]],
    epilogue: str,
    result: str,
    result_type: str,
) -> Kernel:
    """One work-item per output pixel; for few input channels per group (one: depthwise).

    Its parameters: input, weights, those of the epilogue, the result, then ints: number of output pixels (columns), of
    output channels (rows), input channels per group, output channels per group, input height and width, output width,
    top and left padding.  Work-groups: pixels, channels, batch.
    """
    high, wide = kernel
    parameters = [("float*", "x"), ("float*", "w"), *epilogue_parameters, (f"{result_type}*=", "y")]
    names = ("columns", "rows", "depth", "group_rows", "in_h", "in_w", "out_w", "pad_h", "pad_w")
    parameters += [("int", name) for name in names]
    body = f"""
  int column = get_global_id(0), row = get_group_id(1), batch = get_group_id(2);
  if (column >= columns) return;
  int py = column / out_w, px = column % out_w;
  int iy0 = py * {strides[0]} - pad_h, ix0 = px * {strides[1]} - pad_w;
  int groups = rows / group_rows, group = row / group_rows;
  __global const float *image = x + (((long)batch * groups + group) * depth) * in_h * in_w;
  __global const float *taps = w + (long)row * depth * {high * wide};
  int e_batch = batch, e_row = row;
  float acc = 0.0f;
  for (int channel = 0; channel < depth; ++channel) {{
{UNROLL}    for (int u = 0; u < {high}; ++u) {{
      int iy = iy0 + u * {dilations[0]};
      if (iy < 0 || iy >= in_h) continue;
{UNROLL}      for (int v = 0; v < {wide}; ++v) {{
        int ix = ix0 + v * {dilations[1]};
        if (ix >= 0 && ix < in_w) acc += image[iy * in_w + ix] * taps[u * {wide} + v];
      }}
    }}
    image += (long)in_h * in_w;
    taps += {high * wide};
  }}
{epilogue}  y[((long)batch * rows + row) * columns + column] = {result};
"""
    return make_kernel(hint, parameters, body, (LOCAL, 1, 1))


def transposed_kernel(
    kernel: Pair,
    strides: Pair,
    dilations: Pair,
    epilogue_parameters: Sequence[tuple[str, str]],
    epilogue: str,
    result: str,
    result_type: str,
) -> Kernel:
    """Transposed convolution, gathered: each output pixel looks up the input pixels that reach it.

    Its parameters are those of `direct_kernel`; weights are (input channels, output channels per group, taps).
    """
    high, wide = kernel
    parameters = [("float*", "x"), ("float*", "w"), *epilogue_parameters, (f"{result_type}*=", "y")]
    names = ("columns", "rows", "depth", "group_rows", "in_h", "in_w", "out_w", "pad_h", "pad_w")
    parameters += [("int", name) for name in names]
    body = f"""
  int column = get_global_id(0), row = get_group_id(1), batch = get_group_id(2);
  if (column >= columns) return;
  int py = column / out_w, px = column % out_w;
  int groups = rows / group_rows, group = row / group_rows;
  __global const float *image = x + (((long)batch * groups + group) * depth) * in_h * in_w;
  __global const float *taps = w + ((long)group * depth * group_rows + row % group_rows) * {high * wide};
  int e_batch = batch, e_row = row;
  float acc = 0.0f;
  for (int u = 0; u < {high}; ++u) {{
    int fy = py + pad_h - u * {dilations[0]};
    if (fy < 0 || fy % {strides[0]} != 0 || fy / {strides[0]} >= in_h) continue;
    for (int v = 0; v < {wide}; ++v) {{
      int fx = px + pad_w - v * {dilations[1]};
      if (fx < 0 || fx % {strides[1]} != 0 || fx / {strides[1]} >= in_w) continue;
      long at = (long)(fy / {strides[0]}) * in_w + fx / {strides[1]};
      for (int channel = 0; channel < depth; ++channel)
        acc += image[(long)channel * in_h * in_w + at]
             * taps[(long)channel * group_rows * {high * wide} + u * {wide} + v];
    }}
  }}
{epilogue}  y[((long)batch * rows + row) * columns + column] = {result};
"""
    return make_kernel("conv_transpose", parameters, body, (LOCAL, 1, 1))
