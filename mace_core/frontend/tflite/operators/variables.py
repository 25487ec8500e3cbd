"""Variables, and what fills them before the first run."""

from __future__ import annotations

from mace_core.frontend.tflite.operation import Operation
from mace_core.frontend.tflite.registry import converter
from mace_core.frontend.tflite.variables import variable_key


@converter("VAR_HANDLE", options="VarHandleOptions")
def handle(op: Operation) -> None:
    """Known by container and name, in whatever subgraph it is asked for."""
    key, name = variable_key(op.file)
    op.place.root.variables.of(key, name)
    op.place.handles[op.result().index] = key


@converter("READ_VARIABLE")
def read_variable(op: Operation) -> None:
    op.keep(op.emit("Identity", [op.place.current(op.place.handle(op.tensor(0).index, op), op)]))


@converter("ASSIGN_VARIABLE")
def assign_variable(op: Operation) -> None:
    op.place.change(op.place.handle(op.tensor(0).index, op), op.stored(1), op)


@converter("CALL_ONCE", options="CallOnceOptions")
def call_once(op: Operation) -> None:
    op.place.root.initialize(op.option("InitSubgraphIndex"), op)
