"""Kernels between float32 and quantized numbers."""

from __future__ import annotations

from mace_core.tensor import DType
from mace_opencl.kernels.copy import LOCAL
from mace_opencl.program import Kernel, make_kernel

STORED = {
    DType.INT8: ("char", -128, 127),
    DType.UINT8: ("uchar", 0, 255),
    DType.INT16: ("short", -32768, 32767),
    DType.UINT16: ("ushort", 0, 65535),
}
"""Types of quantized numbers: in C, the smallest and the largest."""

_PLACE = """\
  int i = get_global_id(0);
  if (i >= count) return;
  int c = i / inner % entries;
"""


def quantize_kernel(target: DType, has_zero: bool) -> Kernel:
    """``y = saturate(round(x / scale) + zero)``, halves to even; NaN becomes the smallest number.

    Its parameters: data, scales, zero points if there are any, result, ints: number of elements, elements inside of the
    axis of the scales, scales.
    """
    c_type, low, high = STORED[target]
    # a device's division may be off by 2.5 units in the last place, which one step of Newton's method mends
    body = f"""\
{_PLACE}\
  float q = x[i] / scale[c], r = 1.0f / scale[c];
  if (isfinite(q) && isfinite(r)) q = fma(fma(-q, scale[c], x[i]), r, q);
  y[i] = ({c_type})fmin(fmax(rint(q){" + zero[c]" if has_zero else ""}, {low}.0f), {high}.0f);
"""
    return make_kernel(f"quantize_{c_type}", _parameters("float", c_type, c_type, has_zero), body, (LOCAL, 1, 1))


def dequantize_kernel(source: DType, has_zero: bool) -> Kernel:
    """``y = (x - zero) * scale``.

    Its parameters are those of `quantize_kernel`.
    """
    c_type = "int" if source is DType.INT32 else STORED[source][0]
    body = f"{_PLACE}  y[i] = (float)(x[i]{' - zero[c]' if has_zero else ''}) * scale[c];\n"
    return make_kernel(f"dequantize_{c_type}", _parameters(c_type, c_type, "float", has_zero), body, (LOCAL, 1, 1))


def _parameters(source: str, stored: str, target: str, has_zero: bool) -> list[tuple[str, str]]:
    parameters = [(f"{source}*", "x"), ("float*", "scale")]
    parameters += [(f"{stored}*", "zero")] if has_zero else []
    return [*parameters, (f"{target}*=", "y"), *(("int", name) for name in ("count", "inner", "entries"))]
