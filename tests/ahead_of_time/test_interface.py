"""What the C interface promises besides right results: errors, shapes, memory of the caller, profiles."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

sys.path.insert(0, str(Path(__file__).parent))
from programs import TOOLCHAINS, link, skip_without

from mace_core.ahead_of_time import SizeRange, build_library


def table_model(columns: int = 4) -> onnx.ModelProto:
    """Adds a row of a table, which an input numbers, and multiplies by a matrix."""
    table = numpy_helper.from_array(np.arange(2 * columns, dtype=np.float32).reshape(2, columns), "table")
    matrix = numpy_helper.from_array(np.eye(columns, dtype=np.float32), "matrix")
    nodes = [
        helper.make_node("Gather", ["table", "i"], ["row"], name="pick"),
        helper.make_node("Add", ["x", "row"], ["sum"], name="add"),
        helper.make_node("MatMul", ["sum", "matrix"], ["y"], name="multiply"),
    ]
    graph = helper.make_graph(
        nodes,
        "rows",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", columns]),
            helper.make_tensor_value_info("i", TensorProto.INT64, [1]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", columns])],
        [table, matrix],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


EXPECTED = """\
input x type 1 rank 2
input i type 7 rank 1
find 1 0 -1
create NULL 1
create threads 1
create 0 made
first shape 64
no shape NULL
too large 2: the model 'rows' was not built for these shapes; it was built for x=2..64x4, i=1
still 64
small 0: ''
output 3 x 4, 48 bytes
no inputs 1: the array of inputs or that of outputs is NULL
NULL input 1: the input 'i' is NULL
"""


@pytest.mark.parametrize(
    "target", ["host", *(pytest.param(n, marks=pytest.mark.full) for n in TOOLCHAINS if n != "host")]
)
def test_the_interface_keeps_its_promises(target: str, tmp_path: Path) -> None:
    skip_without(target)
    shapes = {"x": (SizeRange(2, 64), 4)}
    library = build_library(table_model(), tmp_path, target=target, shapes=shapes, name="rows")
    program = link(library, "rows", source="api.c")
    ran = subprocess.run([*TOOLCHAINS[target].emulator, str(program)], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    first, _, rest = ran.stdout.partition("\n")
    assert first.startswith(f"model rows for {target} by MACE ")
    assert rest.startswith(EXPECTED)
    lines = rest.splitlines()
    # the sentence about a row that is not there, and the node, are those of a session
    (bad_row,) = [line for line in lines if line.startswith("bad row ")]
    assert bad_row.startswith("bad row 4: node 'pick'")
    assert "7" in bad_row.partition(":")[2]
    assert "run 0: '' 4.0 18.0" in lines
    assert {"profiled 0", "steps told", "quiet 0 yes", "little memory 3", "own memory 0"} <= set(lines)
    assert any(line.startswith("  ") and line.endswith(": multiply") for line in lines)
    assert "threads 0 0 1: -2 threads cannot be; 0 takes as many as there are processors" in lines
    assert [line for line in lines if line.startswith("no workspace")] in ([], ["no workspace 1"])
    assert {"own workspace 0", "same yes"} <= set(lines)
