"""The floor below which a difference is rounding: above the noise of numbers that cancel, below every fault."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mace_core.frontend.load import load_model
from mace_core.numerics import validate
from mace_core.numerics.noise import noise_floors
from mace_core.numerics.validation import Validation

pytestmark = pytest.mark.usefixtures("own_cache")
STEP = 2.0**-23


def model(nodes: list[onnx.NodeProto], output: str, **constants: np.ndarray) -> bytes:
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("x", output)]
    weights = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "g", info[:1], info[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()  # type: ignore[no-any-return]


def floors_of(content: bytes, **values: np.ndarray) -> dict[str, tuple[float, float]]:
    return {name: tuple(floor) for name, floor in noise_floors(load_model(content), values).items()}


def test_a_difference_of_large_numbers_has_their_roundings() -> None:
    x, y = np.float32([1000, 1001]), np.float32([1e-4, 2e-4])
    content = model([helper.make_node("Sub", ["x", "w"], ["y"])], "y", w=x)
    assert floors_of(content, x=x, y=y)["y"] == (8 * STEP * 1001, 8 * STEP * 1001)


def test_noise_is_passed_on_by_factors_and_in_proportion() -> None:
    nodes = [
        helper.make_node("Sub", ["x", "w"], ["d"]),
        helper.make_node("Mul", ["d", "f"], ["m"]),
        helper.make_node("Relu", ["m"], ["y"]),
    ]
    content = model(nodes, "y", w=np.float32([1000]), f=np.float32([0.5]))
    found = floors_of(content, x=np.float32([1000]), d=np.float32([1e-3]), m=np.float32([5e-4]), y=np.float32([5e-4]))
    assert found["m"][1] == pytest.approx(found["d"][1] / 2) and found["m"][0] < 1e-9
    assert found["y"][1] == pytest.approx(found["m"][1])


def test_deep_models_stay_far_below_their_values() -> None:
    """Or a wrong node would hide: 40 layers of products with large weights and additions."""
    random = np.random.default_rng(0)
    nodes, constants, values = [], {}, {"x": random.standard_normal((4, 16)).astype(np.float32)}
    last = "x"
    for layer in range(40):
        constants[f"w{layer}"] = (3 * random.standard_normal((16, 16))).astype(np.float32)
        nodes += [
            helper.make_node("MatMul", [last, f"w{layer}"], [f"p{layer}"]),
            helper.make_node("Tanh", [f"p{layer}"], [f"t{layer}"]),
            helper.make_node("Add", [f"t{layer}", last], [f"a{layer}"]),
        ]
        values[f"p{layer}"] = values[last] @ constants[f"w{layer}"]
        values[f"t{layer}"] = np.tanh(values[f"p{layer}"])
        values[f"a{layer}"] = values[f"t{layer}"] + values[last]
        last = f"a{layer}"
    for name, floor in floors_of(model(nodes, last, **constants), **values).items():
        assert floor[1] < 3e-5 * np.ptp(values[name]), name


def test_values_that_are_no_floats_have_none() -> None:
    content = model([helper.make_node("ArgMax", ["x"], ["y"], axis=0)], "y")
    assert floors_of(content, x=np.float32([1, 2]), y=np.array([1])) == {}


class TestValidate:
    """Against onnxruntime, whose roundings are other ones, on the CPU provider."""

    @pytest.fixture
    def run(self) -> Callable[..., Validation]:
        pytest.importorskip("mace_cpu")

        def run(content: bytes, x: np.ndarray, **options: Any) -> Validation:
            return validate(content, {"x": x}, devices=["cpu"], layers=True, isolated=True, **options)

        return run

    @pytest.mark.parametrize("size", [1.0, 1000.0])
    def test_a_tiny_range_of_rounded_numbers_agrees_and_is_explained(
        self, run: Callable[..., Validation], size: float
    ) -> None:
        """The mean is taken away from numbers that hardly differ: what is left is little but rounding."""
        x = (size + 1e-6 * size * np.random.default_rng(0).standard_normal((8, 1000))).astype(np.float32)
        nodes = [
            helper.make_node("ReduceMean", ["x"], ["mean"], axes=[1]),
            helper.make_node("Sub", ["x", "mean"], ["y"]),
        ]
        found = run(model(nodes, "y"), x)
        assert found.is_good, found.verdict
        assert any("roundings of the numbers they are made of" in note for note in found.notes), found.notes

    def test_a_tolerance_of_zero_takes_no_excuse(self, run: Callable[..., Validation]) -> None:
        x = (1 + 1e-6 * np.random.default_rng(0).standard_normal((8, 1000))).astype(np.float32)
        nodes = [
            helper.make_node("ReduceMean", ["x"], ["mean"], axes=[1]),
            helper.make_node("Sub", ["x", "mean"], ["y"]),
        ]
        assert not run(model(nodes, "y"), x, tolerance=0.0).is_good

    def test_a_fault_as_small_as_its_value_is_still_a_fault(self, run: Callable[..., Validation]) -> None:
        """Products of small numbers in bfloat16 are off by a part of 1e-3, which is tiny, and far above their floor."""
        random = np.random.default_rng(0)
        x, w = (1e-4 * random.standard_normal((16, 64)).astype(np.float32) for _ in range(2))
        content = model([helper.make_node("MatMul", ["x", "w"], ["y"])], "y", w=np.ascontiguousarray(w.T))
        rounded = {"cpu": {"precision": "bfloat16", "features": "host+bf16-emulated"}}
        found = run(content, x, options=rounded, tolerance=1e-4)
        assert not found.is_good
        assert max(layer.difference.max_error for layer in found.outputs if layer.difference) < 1e-9
