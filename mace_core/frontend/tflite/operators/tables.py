"""Hash tables: from whole numbers to texts, and from texts to whole numbers.

A table is filled once, with constants, so that looking something up in it is a LabelEncoder with that content.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from mace_core.frontend.tflite.operation import Operation
from mace_core.frontend.tflite.registry import converter
from mace_core.tensor import DType

_SIDES = {DType.INT64: "int64s", DType.STRING: "strings"}
_DEFAULTS = {DType.INT64: "default_int64", DType.STRING: "default_string"}


@converter("HASHTABLE", options="HashtableOptions")
def table(op: Operation) -> None:
    """Known by its number, in whatever subgraph it is asked for."""
    op.place.handles[op.result().index] = f"table {op.option('TableId')}"


@converter("HASHTABLE_IMPORT")
def fill(op: Operation) -> None:
    """Only the first content counts, as in LiteRT."""
    keys, values = (op.constant(index) for index in (1, 2))
    if keys is None or values is None:
        raise op.unsupported("fills a table with what the model computes")
    if keys.size != values.size:
        raise op.error(f"fills a table with {keys.size} keys and {values.size} values")
    op.place.root.tables.setdefault(_key(op), (keys.reshape(-1), values.reshape(-1)))


@converter("HASHTABLE_FIND")
def find(op: Operation) -> None:
    keys, values = _content(op)
    default = op.constant(2)
    if default is None or default.size != 1:
        raise op.unsupported("takes a computed value for what the table does not have")
    kinds = (op.dtype(1), op.result_dtype())
    if sorted(kind.name for kind in kinds) != ["INT64", "STRING"] or op.dtype(2) is not kinds[1]:
        raise op.unsupported(f"looks {kinds[0].label} up, for {kinds[1].label}")
    attributes = {
        f"keys_{_SIDES[kinds[0]]}": _listed(keys),
        f"values_{_SIDES[kinds[1]]}": _listed(values),
        _DEFAULTS[kinds[1]]: _listed(default.reshape(-1))[0],
    }
    if not len(keys):
        raise op.unsupported("looks something up in an empty table")
    op.keep(op.emit("LabelEncoder", [op.stored(1)], attributes, domain="ai.onnx.ml"))


@converter("HASHTABLE_SIZE")
def size(op: Operation) -> None:
    op.keep(op.number([len(np.unique(_content(op)[0]))], np.int64))


@converter("HASHTABLE_LOOKUP")
def rows_of_keys(op: Operation) -> None:
    """Rows of values whose keys are looked up, zeros where there is no such key; and which there are."""
    if op.dtype(2) is DType.STRING:
        raise op.unsupported("looks texts up")
    wanted = op.emit("Unsqueeze", [op.stored(0), op.number([1])])
    equal = op.cast(op.emit("Equal", [wanted, op.stored(1)]), DType.INT32)
    found = op.emit("ReduceMax", [equal, op.number([1])], {"keepdims": 0})
    rows = op.emit("Gather", [op.stored(2), op.emit("ArgMax", [equal], {"axis": 1, "keepdims": 0})], {"axis": 0})
    shape = op.number([-1, *(1,) * (op.rank(2) - 1)])
    is_there = op.cast(op.emit("Reshape", [found, shape]), DType.BOOL)
    op.keep(op.emit("Where", [is_there, rows, op.number(0, op.dtype(2).numpy)]), 0)
    op.keep(op.cast(found, DType.UINT8), 1)


def _key(op: Operation) -> str:
    return op.place.handle(op.tensor(0).index, op)


def _content(op: Operation) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    found = op.place.root.tables.get(_key(op))
    if found is None:
        raise op.unsupported("asks a table that nothing has filled")
    return found


def _listed(content: npt.NDArray[Any]) -> list[Any]:
    items = content.tolist()
    return [item.decode("utf-8", "surrogateescape") if isinstance(item, bytes) else item for item in items]
