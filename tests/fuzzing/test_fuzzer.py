"""The fuzzer itself: finds what is wrong, makes it small, keeps it, and does not take a judge's word for everything."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from mace_testing.fuzz import main
from mace_testing.fuzzing import judges, verdict
from mace_testing.fuzzing.campaign import explore
from mace_testing.fuzzing.case import OpCase
from mace_testing.fuzzing.keep import keep_failure
from mace_testing.fuzzing.known import KNOWN, excuse
from mace_testing.fuzzing.page import judges_page
from mace_testing.fuzzing.registry import covered
from mace_testing.fuzzing.schema import dtypes, opsets
from mace_testing.fuzzing.verdict import Outcome, Verdict, decide, difference

from mace_core.errors import ProviderError

X = np.array([1.0, -2.0, 3.0], np.float32)
REFERENCE = "reference"


def test_opsets_are_those_where_an_operator_changes() -> None:
    found = opsets("Softmax")
    assert {7, 10, 11, 12, 13} <= set(found)
    assert max(opsets("Upsample")) == 9, "withdrawn in opset 10"
    assert max(opsets("GroupNormalization")) > 20, "one form was withdrawn, another came"


def test_types_come_from_the_schema() -> None:
    assert dtypes("Relu", 13) == tuple(np.dtype(name) for name in ("float32", "float64", "float16"))
    assert np.dtype(np.int64) in dtypes("Relu", 14)


def test_a_case_is_a_valid_model() -> None:
    case = OpCase("Clip", 13, (X, None, np.array(2.0, np.float32)), constants=frozenset({2}), symbolic=True)
    (output,) = onnx.shape_inference.infer_shapes(case.model(), strict_mode=True).graph.output
    assert [dim.dim_param for dim in output.type.tensor_type.shape.dim] == ["x0_0"]
    assert list(case.feeds) == ["x0"]


def test_a_right_result_is_right() -> None:
    assert decide(OpCase("Relu", 14, (X,)), REFERENCE) == Verdict(Outcome.RIGHT)


def test_a_wrong_result_is_found_and_made_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Judges that both say otherwise for elements above 1."""

    def judge(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:  # type: ignore[type-arg]
        (x,) = judges.ask_reference(model, feeds)
        return [np.where(x > 1, np.zeros_like(x), x)]

    monkeypatch.setattr(verdict, "JUDGES", {"one": judge, "other": judge})
    found = explore("Relu", "", [REFERENCE], seed=None, examples=100)
    assert found.failure is not None
    case, reason = found.failure
    assert reason.outcome is Outcome.WRONG and reason.against == ("one", "other")
    assert case.inputs[0] is not None and case.inputs[0].ndim <= 1, "the smallest example, not the first"


def test_judges_that_differ_are_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    table = {"one": judges.ask_reference, "other": lambda model, feeds: [X + 1]}
    monkeypatch.setattr(verdict, "JUDGES", table)
    found = decide(OpCase("Relu", 14, (X,)), REFERENCE)
    assert found.outcome is Outcome.DISPUTED and found.against == ("other",)


def test_an_error_where_a_judge_has_a_result_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ProviderError("out of order", node="relu", device="reference:0")

    monkeypatch.setattr("mace_core.session.Session.run", fail)
    found = decide(OpCase("Relu", 14, (X,)), REFERENCE)
    assert found.outcome is Outcome.WRONG and "out of order" in found.detail


def test_a_judge_that_is_known_to_be_wrong_does_not_count() -> None:
    case = OpCase("Softmax", 12, (np.array([[[1.0], [2.0]]], np.float32),))
    assert excuse("onnx.reference", case) and not excuse("onnxruntime", case)
    assert not excuse("onnx.reference", OpCase("Softmax", 13, case.inputs))


def test_every_excuse_is_about_an_operator_that_is_fuzzed() -> None:
    names = {op for _, op in covered()}
    assert all(op in names for known in KNOWN for op in known.ops)


def test_the_page_about_the_judges_is_up_to_date() -> None:
    page = Path(__file__).parents[2] / "docs" / "judges.md"
    assert page.read_text(encoding="utf-8") == judges_page()


@pytest.mark.parametrize(
    ("mine", "theirs", "text"),
    [
        (np.float32([1, 2]), np.float32([1, 2.000001]), ""),
        (np.float32([1, 2]), np.float32([1, 2.1]), "1 of 2 elements differ"),
        (np.float32([np.nan, np.inf]), np.float32([np.nan, np.inf]), ""),
        (np.float32([np.inf]), np.float32([1]), "1 of 1 elements differ"),
        (np.float32([1]), np.float64([1]), "is float32, should be float64"),
        (np.float32([1]), np.float32([[1]]), "has shape [1]"),
        (np.int8([127]), np.int8([-128]), "1 of 1 elements differ"),
    ],
)
def test_what_counts_as_a_difference(mine: np.ndarray, theirs: np.ndarray, text: str) -> None:  # type: ignore[type-arg]
    found = difference(mine, theirs)
    assert (text in found) if text else not found


def test_a_failure_is_kept_as_a_model_and_as_a_test_that_runs(tmp_path: Path) -> None:
    case = OpCase("Clip", 13, (X, None, np.array(2.0, np.float32)), {}, constants=frozenset({2}))
    path = keep_failure(case, Verdict(Outcome.WRONG, "something"), tmp_path, seed=5)
    assert onnx.load(path.with_suffix(".onnx")).graph.node[0].op_type == "Clip"
    assert np.array_equal(np.load(path.with_suffix(".npz"))["x0"], X)
    checked: list[OpCase] = []
    names = {"np": np, "OpCase": OpCase, "check": checked.append}
    exec(path.read_text(), names)
    names["test_clip_5"]()  # type: ignore[operator]
    assert repr(checked) == repr([case])


def test_the_command_runs_and_tells_how_many(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["--minutes", "0.02", "--op", "Relu", "--provider", "reference", "--failures", str(tmp_path)]) == 0
    assert "examples of 1 operators" in capfd.readouterr().out
    assert not list(tmp_path.iterdir())


def test_an_operator_without_a_strategy_is_refused(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["--op", "Nonsense"]) == 2
    assert "no strategy for Nonsense" in capfd.readouterr().out
