"""Optimizer updates and batch statistics run as simpler operators, on the cpu provider alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from mace_core import Session

Array = npt.NDArray[Any]
RNG = np.random.default_rng(11)
TRAINING = "ai.onnx.preview.training"


def check(op: str, inputs: list[Array], outputs: int, domain: str, opset: int, **attributes: Any) -> None:
    """Run one node strictly on the cpu provider and compare with the reference."""
    names = [f"x{i}" for i in range(len(inputs))]
    results = [f"y{i}" for i in range(outputs)]
    node = helper.make_node(op, names, results, domain=domain, **attributes)
    infos = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in zip(names, inputs, strict=True)
    ]
    graph = helper.make_graph(
        [node], "test", infos, [helper.make_tensor_value_info(r, TensorProto.FLOAT, None) for r in results]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid(domain, opset)], ir_version=10)
    feeds = dict(zip(names, inputs, strict=True))
    expected = ReferenceEvaluator(model).run(None, feeds)
    with Session(model.SerializeToString(), devices=["cpu"], strict=True) as session:
        got = session.run(feeds)
    for name, array in zip(results, expected, strict=True):
        np.testing.assert_allclose(got[name], array, rtol=2e-5, atol=1e-6, err_msg=name)


def numbers(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("updates", [0, 3])
@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize(
    ("op", "states", "attributes"),
    [
        ("Adagrad", 1, {"norm_coefficient": 0.01, "epsilon": 1e-5, "decay_factor": 0.1}),
        ("Adam", 2, {"norm_coefficient": 0.01, "alpha": 0.95, "beta": 0.85, "norm_coefficient_post": 0.1}),
        ("Momentum", 1, {"norm_coefficient": 0.01, "alpha": 0.95, "beta": 0.1, "mode": "standard"}),
        ("Momentum", 1, {"norm_coefficient": 0.01, "alpha": 0.95, "beta": 0.1, "mode": "nesterov"}),
    ],
)
def test_optimizers(op: str, states: int, attributes: dict[str, Any], count: int, updates: int) -> None:
    shapes = [(2, 3), (5,)][:count]
    tensors = [numbers(*shape) for _ in range(2) for shape in shapes]
    tensors += [np.abs(numbers(*shape)) for _ in range(states) for shape in shapes]
    scalars = [np.array(0.1, np.float32), np.array(updates, np.int64)]
    check(op, [*scalars, *tensors], count * (1 + states), TRAINING, 1, **attributes)


@pytest.mark.parametrize("opset", [15, 21])
@pytest.mark.parametrize("shape", [(4, 3), (2, 3, 5), (2, 3, 4, 5)])
def test_batch_statistics(shape: tuple[int, ...], opset: int) -> None:
    parameters = [numbers(3), numbers(3), numbers(3), np.abs(numbers(3))]
    attributes = {"training_mode": 1, "momentum": 0.7, "epsilon": 1e-3}
    check("BatchNormalization", [numbers(*shape), *parameters], 3, "", opset, **attributes)
