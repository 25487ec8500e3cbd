"""The test suite of the ONNX package on the CPU provider: a sample here, all of it in the full tier."""

from __future__ import annotations

import json
import unittest
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from mace_testing.backend_suite import (
    Conditions,
    Outcome,
    SuiteCase,
    Verdict,
    figures,
    judge,
    operator_page,
    quick_names,
    suite_cases,
    summary,
)
from mace_testing.backend_suite.__main__ import main
from mace_testing.backend_suite.backend import session_backend
from mace_testing.backend_suite.cases import unusual
from mace_testing.backend_suite.report import parts
from mace_testing.backend_suite.workers import judge_all
from onnx import TensorProto, helper
from onnx.backend.test import BackendTest

pytest.importorskip("mace_cpu", reason="needs the CPU provider")


def test_a_sample_of_the_suite() -> None:
    """Nothing the provider computes is wrong, what is usual runs on it, and what does not run on it has a reason.

    One test: whoever collects tests need not make all cases of the suite, which takes seconds.
    """
    bad: list[str] = []
    for name in quick_names(every=150):
        case = suite_cases()[name]
        verdict = judge(case, "cpu")
        usual = case.unusual == "" and case.op != "ImageDecoder"
        native = verdict.outcome is Outcome.NATIVE
        if verdict.wrong or native != (verdict.reason == "") or (usual and not native):
            bad.append(f"{name}: {verdict.outcome.name}, {verdict.reason or 'no reason'}")
    assert not bad, "\n".join(bad)


@pytest.mark.full
@pytest.mark.timeout(3600)
def test_the_whole_suite() -> None:
    verdicts = list(judge_all(list(suite_cases()), "cpu", jobs=2))
    found = dict(parts(verdicts))
    assert [verdict for verdict in verdicts if verdict.wrong] == []
    assert found["all node tests"].total == len([case for case in suite_cases().values() if case.kind == "node"])
    assert found["usual node tests"].native_percent >= 98.0
    assert found["all node tests"].passed_percent >= 98.5


def test_the_onnx_package_drives_sessions_through_its_own_interface() -> None:
    suite = BackendTest(session_backend("cpu"), __name__)
    suite.include(r"^test_(relu|argmax_default_axis_example|gelu_default_1|nonzero_example|range_int32.*)_cpu$")
    ran: list[str] = []  # some versions of Python count tests that are skipped in testsRun, others do not

    class Result(unittest.TestResult):
        def addSuccess(self, test: unittest.TestCase) -> None:  # noqa: N802  # the name is unittest's
            ran.append(test.id())

    result = Result()
    suite.test_suite.run(result)
    assert len(ran) >= 5
    assert result.wasSuccessful(), result.failures + result.errors


def wrong_case() -> SuiteCase:
    """Relu whose expected output is wrong."""
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "g",
        [info("x", TensorProto.FLOAT, [2])],
        [info("y", TensorProto.FLOAT, [2])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    data = [([np.float32([-1, 1])], [np.float32([0, 2])])]
    return SuiteCase("test_wrong", "node", "Relu", "", "", model, data, None, 1e-3, 1e-7)


def test_a_wrong_result_of_the_provider_is_a_failure_of_its_own_kind() -> None:
    verdict = judge(wrong_case(), "cpu")
    assert verdict.outcome is Outcome.FAIL and verdict.wrong
    assert "WRONG ON THE PROVIDER" in summary("cpu", [verdict])


def test_devices_of_less_precision_have_wider_tolerances_and_the_page_says_so() -> None:
    conditions = Conditions(rtol=1.0, atol=1.0)
    verdict = judge(wrong_case(), "cpu", conditions)
    assert verdict.outcome is Outcome.NATIVE
    page = operator_page("cpu:0", "a processor", [verdict], conditions)
    assert "--provider cpu:0 --rtol 1 --atol 1\n--markdown docs/operators/cpu.md" in page
    assert "1 of a value" in page


@pytest.mark.parametrize("number", [1, 3000, 3001], ids=["small", "exact in float16", "rounded by float16"])
def test_a_device_of_half_precision_may_round_its_inputs_and_nothing_else(number: int) -> None:
    case = replace(wrong_case(), data_sets=[([np.float32([-1, number])], [np.float32([0, 2])])])
    assert judge(case, "cpu", Conditions(half=True)).wrong


def test_the_page_says_that_a_device_rounds_its_inputs() -> None:
    verdict = Verdict("test_a", "node", "Foo", "", Outcome.FAIL, "right for inputs rounded to float16 only")
    page = operator_page("cpu:0", "a processor", [verdict], Conditions(rtol=0.1, half=True))
    assert "--rtol 0.1 --half\n" in page and "inputs are rounded to float16" in page


def test_what_is_declined_passes_with_fallback_and_says_why() -> None:
    verdict = judge(suite_cases()["test_strnormalizer_nostopwords_nochangecase"], "cpu")
    assert verdict.outcome is Outcome.FALLBACK and verdict.unusual == "strings"
    assert "StringNormalizer" in verdict.reason


def test_excluded_cases_have_a_reason_and_count_as_not_passed() -> None:
    verdict = judge(suite_cases()["test_bernoulli"], "cpu")
    assert verdict.outcome is Outcome.EXCLUDED and "random" in verdict.reason
    assert figures([verdict]).passed_percent == 0.0


def test_models_that_nobody_uses_are_told_from_usual_ones() -> None:
    cases = suite_cases()
    assert unusual(cases["test_relu"].model) == ""
    assert unusual(cases["test_cast_FLOAT_to_FLOAT8E4M3FN"].model) == "float8, 4-bit or 2-bit numbers"
    assert unusual(cases["test_sequence_insert_at_back"].model) == "sequences"
    assert unusual(cases["test_training_dropout"].model) == "training"
    assert unusual(cases["test_adam"].model).endswith("training")
    usual = sum(1 for case in cases.values() if case.kind == "node" and not case.unusual)
    assert 0.8 < usual / sum(1 for case in cases.values() if case.kind == "node") < 0.95


def test_the_page_has_a_table_per_operator_with_reasons() -> None:
    reason = "node 'n' (Foo): cpu:0: no | kernel"
    verdicts = [
        Verdict("test_a", "node", "Foo", "", Outcome.NATIVE),
        Verdict("test_b", "node", "Foo", "strings", Outcome.FALLBACK, reason),
        Verdict("test_c", "node", "Bar", "", Outcome.FAIL, "it broke", wrong=True),
    ]
    page = operator_page("cpu", "a processor", verdicts)
    assert "| all node tests | 3 | 1 (33.3 %) | 2 (66.7 %) |" in page
    assert "| usual node tests | 2 | 1 (50.0 %) | 1 (50.0 %) |" in page
    assert "| Foo | 2 | 1 | 2 | no \\| kernel |" in page
    assert "| test_c | it broke |" in page


def test_the_command_prints_and_writes_the_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, page = tmp_path / "suite.json", tmp_path / "operators.md"
    arguments = ["--provider", "cpu", "--match", "test_softsign", "--jobs", "1"]
    assert main([*arguments, "--json", str(data), "--markdown", str(page)]) == 0
    assert "usual node tests" in capsys.readouterr().out
    found = json.loads(data.read_text())
    assert found["figures"]["all node tests"]["native"] == len(found["cases"]) >= 2
    assert "| Softsign |" in page.read_text()


def test_the_suite_is_the_one_of_the_installed_package() -> None:
    assert len(suite_cases()) > 1900, f"onnx {onnx.__version__} has fewer cases than expected"


def test_a_device_that_is_not_there_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--provider", "cpu:9", "--quick"]) == 2
    captured = capsys.readouterr()
    assert "cpu:9" in captured.err
    assert captured.out == ""
