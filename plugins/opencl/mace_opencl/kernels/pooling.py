"""Pooling windows in two dimensions: a work-item per output element."""

from __future__ import annotations

from mace_opencl.kernels.copy import LOCAL
from mace_opencl.program import Kernel, make_kernel


def pool_kernel(maximum: bool, count_padding: bool) -> Kernel:
    """Maximum or average over a window.

    Its parameters: input, result, ints: number of results; input height and width, output height and width, kernel
    height and width, strides, dilations, pads before, pads behind (height, width each; those behind count as elements
    only up to the padded edge).
    """
    parameters = [("float*", "x"), ("float*=", "y"), ("int", "count")]
    names = ("in", "out", "kernel", "stride", "dilation", "pad", "end")
    parameters += [("int", f"{name}_{axis}") for name in names for axis in "hw"]
    start = "-INFINITY" if maximum else "0.0f"
    take = "acc = v > acc || v != v ? v : acc;" if maximum else "acc += v; ++seen;"
    padded = "iy >= -pad_h && iy < in_h + end_h && ix >= -pad_w && ix < in_w + end_w"
    outside = f"else if ({padded}) ++seen;" if count_padding and not maximum else ""
    body = f"""
  int i = get_global_id(0);
  if (i >= count) return;
  int px = i % out_w, py = i / out_w % out_h;
  x += (long)(i / (out_w * out_h)) * in_h * in_w;
  float acc = {start};
  int seen = 0;
  for (int u = 0; u < kernel_h; ++u)
    for (int v_at = 0; v_at < kernel_w; ++v_at) {{
      int iy = py * stride_h - pad_h + u * dilation_h, ix = px * stride_w - pad_w + v_at * dilation_w;
      if (iy >= 0 && iy < in_h && ix >= 0 && ix < in_w) {{
        float v = x[iy * in_w + ix];
        {take}
      }} {outside}
    }}
  y[i] = {"acc" if maximum else "acc / (float)seen"};
"""
    return make_kernel("max_pool" if maximum else "average_pool", parameters, body, (LOCAL, 1, 1))
