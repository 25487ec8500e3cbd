"""Inputs that ONNX binds to one type variable are of one type, or the model is refused."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import onnx
import pytest
from onnx import TensorProto, defs, helper

from mace_core import Session
from mace_core.errors import MaceError
from mace_core.operators import registry

FLOAT, INT32, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT32, TensorProto.INT64, TensorProto.BOOL
QUANTIZED = {"DequantizeLinear", "ConvInteger", "MatMulInteger", "QLinearConv", "QLinearMatMul"}
"""Their scales and zero points have checks of their own, see test_encodings_refused.py."""

VARIADIC = defs.OpSchema.FormalParameterOption.Variadic


def groups(schema: defs.OpSchema) -> tuple[tuple[int, ...], ...]:
    found = defaultdict(list)
    for index, parameter in enumerate(schema.inputs):
        if parameter.option != VARIADIC:
            found[parameter.type_str].append(index)
        elif parameter.is_homogeneous and not parameter.type_str.startswith("tensor"):
            return ((),)
    return tuple(tuple(members) for members in found.values() if len(members) > 1)


def test_the_table_is_that_of_the_standard() -> None:
    by_operator = defaultdict(set)
    for schema in defs.get_all_schemas_with_history():
        if not schema.domain and (len(schema.inputs) > 1 or groups(schema)):
            by_operator[schema.name].add(groups(schema))
    same = {name: found.pop() for name, found in by_operator.items() if len(found) == 1}
    left_out = QUANTIZED | {"SequenceConstruct"}
    of_tensors = {name: found for name, found in same.items() if found and name not in left_out}
    table = registry._one_type
    assert {name: table.find("", name) for name in table.operators("")} == of_tensors


@pytest.mark.parametrize(
    ("op_type", "types", "output", "attributes"),
    [
        ("Add", [INT32, FLOAT], INT32, {}),
        ("Concat", [FLOAT, INT32], FLOAT, {"axis": 0}),
        ("MatMul", [FLOAT, INT32], FLOAT, {}),
        ("Where", [BOOL, FLOAT, INT32], FLOAT, {}),
        ("Greater", [INT32, INT64], BOOL, {}),
        ("Max", [FLOAT, FLOAT, INT32], FLOAT, {}),
        ("Pad", [FLOAT, INT64, INT32], FLOAT, {}),
    ],
)
def test_mixed_types_are_refused(op_type: str, types: list[int], output: int, attributes: dict[str, int]) -> None:
    names = [f"x{number}" for number in range(len(types))]
    inputs = [helper.make_tensor_value_info(name, kind, [4]) for name, kind in zip(names, types, strict=True)]
    node = helper.make_node(op_type, names, ["y"], name="mixed", **attributes)
    graph = helper.make_graph([node], "mixed", inputs, [helper.make_tensor_value_info("y", output, None)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    feeds = {name: np.ones(4, helper.tensor_dtype_to_np_dtype(kind)) for name, kind in zip(names, types, strict=True)}
    with pytest.raises(MaceError, match=r"'mixed' .*must have one element type, not \w+ and \w+"):
        run(model, feeds)


def run(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> None:
    with Session(model, devices=["cpu"]) as session:
        session.run(feeds)
