"""What the ONNX schema says of an operator: its versions, and the element types of each input."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt
import onnx

OLDEST_OPSET = 7

TYPES = {
    f"tensor({name})": np.dtype(name)
    for name in (
        *("float32", "float64", "float16", "int8", "int16", "int32", "int64"),
        *("uint8", "uint16", "uint32", "uint64", "bool"),
    )
}
TYPES["tensor(float)"] = np.dtype(np.float32)
TYPES["tensor(double)"] = np.dtype(np.float64)

FLOATS = tuple(np.dtype(name) for name in ("float32", "float64", "float16"))
SIGNED = tuple(np.dtype(name) for name in ("int8", "int16", "int32", "int64"))
UNSIGNED = tuple(np.dtype(name) for name in ("uint8", "uint16", "uint32", "uint64"))
INTEGERS = SIGNED + UNSIGNED
BOOL = np.dtype(np.bool_)


@cache
def newest_opset() -> int:
    """The newest released opset of ai.onnx."""
    return int(onnx.defs.onnx_opset_version())


@cache
def opsets(op: str) -> tuple[int, ...]:
    """Opsets worth trying: where the operator's definition changes, the last before each change, and the newest."""
    history = {schema.since_version: schema.deprecated for schema in _history(op)}
    since = sorted(history)
    # an operator that was withdrawn may have come back in another form
    last = since[-1] - 1 if history[since[-1]] else newest_opset()
    first = max(OLDEST_OPSET, since[0])
    found = {first, last}
    for version in since:
        if first < version <= last:
            found |= {version - 1, version}
    return tuple(sorted(found))


@cache
def _history(op: str) -> tuple[onnx.defs.OpSchema, ...]:
    return tuple(s for s in onnx.defs.get_all_schemas_with_history() if s.name == op and not s.domain)


@cache
def dtypes(op: str, opset: int, position: int = 0, *, output: bool = False) -> tuple[npt.DTypeLike, ...]:
    """Numeric types (and bool) that the operator takes at this input under this opset, the most usual first.

    Args:
        position: of the input; the last stands for all that a variadic input takes.
        output: of the output at ``position`` instead.
    """
    schema = onnx.defs.get_schema(op, opset)
    formal = schema.outputs if output else schema.inputs
    found = {TYPES[name] for name in formal[min(position, len(formal) - 1)].types if name in TYPES}
    usual = [*FLOATS, *INTEGERS, BOOL]
    return tuple(dtype for dtype in usual if dtype in found)
