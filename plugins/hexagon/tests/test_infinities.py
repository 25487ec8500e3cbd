"""What float16 on the HTP does not have: masks with infinities, NaN, overflow; declined, or right, never wrong."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import onnx
import pytest
from hexagon_support import Array, onnxruntime_outputs
from hypothesis import given, settings
from hypothesis import strategies as st
from mace_testing.backend_suite import Conditions, Outcome, judge, suite_cases
from onnx import helper
from test_integers import model, run

from mace_core.errors import OutOfRangeError
from mace_core.session import Session

pytestmark = pytest.mark.usefixtures("library_folder")

NODE = helper.make_node
NEVER = np.float32([-np.inf])


def mixed(made: onnx.ModelProto, feeds: dict[str, Array]) -> tuple[Array, dict[str, str]]:
    """The first output with the CPU behind the HTP, and why the run left the HTP."""
    with Session(made, devices=["hexagon:v75", "cpu"], cache=False) as session:
        found = session.run(feeds)[made.graph.output[0].name]
        told = {device: notes[-1] for device, notes in session.explain().notes.items()}
        return np.asarray(found), {device: note for device, note in told.items() if "it failed in 1 run" in note}


def check(made: onnx.ModelProto, feeds: dict[str, Array]) -> dict[str, str]:
    found, refused = mixed(made, feeds)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (expected,) = onnxruntime_outputs(made.SerializeToString(), feeds)
    np.testing.assert_allclose(found, expected, rtol=5e-3, atol=5e-3)
    return refused


MASKED = [
    NODE("Add", ["scores", "mask"], ["biased"], name="add"),
    NODE("Softmax", ["biased"], ["y"], name="softmax", axis=-1),
]


@settings(max_examples=12, deadline=None)
@given(st.data())
def test_masks_of_any_kind_give_what_onnxruntime_gives(data: st.DataObject) -> None:
    kinds = st.sampled_from([0.0, -np.inf, -3.4e38, -1e9, -1.0])
    mask = np.float32(data.draw(st.lists(kinds, min_size=12, max_size=12))).reshape(3, 4)
    scores = np.random.default_rng(0).uniform(-4, 4, (3, 4)).astype(np.float32)
    check(model(MASKED, {"scores": scores, "mask": mask}, {"y": "float32"}), {"scores": scores, "mask": mask})


def test_a_mask_that_leaves_something_in_each_row_stays_on_the_htp() -> None:
    mask = np.float32([[0, -np.inf, 0], [-np.inf, -np.inf, 0]])
    feeds: dict[str, Array] = {"scores": np.float32([[1, 2, 3], [3, 2, 1]]), "mask": mask}
    assert check(model(MASKED, feeds, {"y": "float32"}), feeds) == {}


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e6])
def test_inputs_that_float16_does_not_have_are_computed_elsewhere(bad: float) -> None:
    feeds: dict[str, Array] = {"x": np.float32([1, bad, -2])}
    made = model([NODE("Mul", ["x", "half"], ["y"], name="mul")], feeds, {"y": "float32"}, half=np.float32([0.5]))
    assert "does not have" in check(made, feeds)["hexagon:v75"]
    with pytest.raises(OutOfRangeError, match="input 'x' holds"):
        run(made, feeds)


@pytest.mark.parametrize(
    ("op", "operands"),
    [
        ("Sqrt", [[4.0, -1.0]]),
        ("Log", [[2.0, 0.0]]),
        ("Log", [[2.0, -3.0]]),
        ("Exp", [[1.0, 200.0]]),
        ("Pow", [[2.0, -1.5], [0.5, 0.5]]),
        ("Pow", [[2.0, 0.0], [2.0, -1.0]]),
        ("Div", [[2.0, 1.0], [1.0, 0.0]]),
        ("Mul", [[2.0, 3000.0], [1.0, 3000.0]]),
        ("ReduceProd", [[300.0, 300.0]]),
    ],
    ids=str,
)
def test_results_that_float16_does_not_have_are_computed_elsewhere(op: str, operands: list[list[float]]) -> None:
    feeds: dict[str, Array] = {f"x{index}": np.float32(operand) for index, operand in enumerate(operands)}
    made = model([NODE(op, list(feeds), ["y"], name=op)], feeds, {"y": "float32"})
    assert "left the range" in check(made, feeds)["hexagon:v75"]


@pytest.mark.parametrize("power", [[3.0, 2.0, 0.5], np.int64([3, 2, 1])], ids=["real", "integer"])
def test_powers_that_are_defined_stay_on_the_htp(power: Any) -> None:
    feeds: dict[str, Array] = {"x": np.float32([-2, -1.5, 4]), "p": np.asarray(power)}
    feeds["p"] = feeds["p"].astype(np.float32) if feeds["p"].dtype.kind == "f" else feeds["p"]
    assert check(model([NODE("Pow", ["x", "p"], ["y"], name="pow")], feeds, {"y": "float32"}), feeds) == {}


@pytest.mark.parametrize("op", ["Mul", "Add", "Div", "Max", "Where"])
@pytest.mark.parametrize("number", [-np.inf, 1e6])
def test_constants_that_float16_does_not_have(op: str, number: float) -> None:
    """Their operator is declined, unless a bound of float16 serves as well; what it gives is looked at when it runs."""
    feeds: dict[str, Array] = {"x": np.float32([[1, -2, 3]])}
    inputs, held = ["x", "c"], {"c": np.float32([number])}
    if op == "Where":
        inputs, held = ["m", "x", "c"], held | {"m": np.array([[True, False, True]])}
    nodes = [NODE(op, inputs, ["z"], name=op), NODE("Relu", ["z"], ["y"], name="relu")]
    check(model(nodes, feeds, {"y": "float32"}, **held), feeds)


def test_a_mask_is_compared_with_infinity() -> None:
    """As the body of Attention does, to find the rows that are masked whole."""
    feeds: dict[str, Array] = {"scores": np.float32([[1, 2], [3, 4]]), "keep": np.array([[True, False], [False] * 2])}
    nodes = [
        NODE("Where", ["keep", "zero", "never"], ["bias"], name="where"),
        NODE("Add", ["bias", "bias"], ["twice"], name="twice"),
        NODE("ReduceMax", ["twice", "last"], ["highest"], name="highest", keepdims=1),
        NODE("Equal", ["highest", "never"], ["none"], name="none"),
        NODE("Add", ["scores", "twice"], ["biased"], name="biased"),
        NODE("Softmax", ["biased"], ["likely"], name="softmax", axis=-1),
        NODE("Where", ["none", "zero", "likely"], ["y"], name="safe"),
    ]
    made = model(nodes, feeds, {"y": "float32"}, zero=np.float32([0]), never=NEVER, last=np.int64([-1]))
    np.testing.assert_allclose(run(made, feeds)["y"], [[1, 0], [0, 0]], atol=2e-3)
    feeds["keep"] = feeds["keep"][::-1].copy()
    np.testing.assert_allclose(run(made, feeds)["y"], [[0, 0], [1, 0]], atol=2e-3)


def test_infinities_do_not_cross_to_another_device() -> None:
    """What makes them runs where they are read."""
    feeds: dict[str, Array] = {"x": np.float32([[1, 2, 3]]), "keep": np.array([[True, False, True]])}
    nodes = [
        NODE("Where", ["keep", "x", "never"], ["masked"], name="where"),
        NODE("Cast", ["masked"], ["wide"], name="wide", to=onnx.TensorProto.DOUBLE),
        NODE("Neg", ["x"], ["y"], name="neg"),
    ]
    made = model(nodes, feeds, {"wide": "float64", "y": "float32"}, never=NEVER)
    found, refused = mixed(made, feeds)
    np.testing.assert_array_equal(found, [[1, -np.inf, 3]])
    with Session(made, devices=["hexagon:v75", "cpu"], cache=False) as session:
        session.run(feeds)
        reason = next(node.declined["hexagon:v75"] for node in session.explain().nodes if node.node == "where")
    assert refused == {} and "may be infinite" in reason


def test_log_softmax_of_numbers_far_apart() -> None:
    feeds: dict[str, Array] = {"x": np.float32([[0, -100, -20000], [5, 5, 5], [3000, 1, 2990]])}
    assert check(model([NODE("LogSoftmax", ["x"], ["y"], name="log_softmax")], feeds, {"y": "float32"}), feeds) == {}


def test_the_suite_tells_rounded_inputs_from_wrong_results() -> None:
    """10000 to 10003 are one number of float16."""
    verdict = judge(suite_cases()["test_softmax_large_number"], "hexagon:v75", Conditions(rtol=0.01, half=True))
    assert verdict.outcome is Outcome.FAIL and not verdict.wrong and "rounded to float16" in verdict.reason
