"""Nothing reads memory that is not its own any more, or was never written.

Many independent cases of the ONNX suite become one model.  Its results must be those of the cases, and the same to the
last bit whether buffers share memory or not, and whatever lies in memory that nobody has written yet or needs any more.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from mace_testing.backend_suite import SuiteCase, suite_cases
from mace_testing.backend_suite.judge import LOOSER_ATOL, assert_same
from onnx import TensorProto, helper

import mace_core as mace
from mace_core.errors import UsageError
from mace_core.provider.poison import VARIABLE
from mace_core.testing.merged import merge_models, opsets, poisoned, same_bits, without_reuse

pytest.importorskip("mace_cpu", reason="needs the CPU provider")

PATTERNS = (0xFF, 0x5A)
"""NaN in every float type and -1 in every integer; and a number in all of them."""

LARGEST_GROUP = 60
SAMPLE = 200
SHARES = 8
UNSIZED = ("test_nonzero", "test_compress", "test_unique", "test_nonmaxsuppression")
TOLERANCE_OF_ZERO = 1e-7


def groups(every: int) -> dict[str, list[SuiteCase]]:
    """Cases to merge: each ``every``-th, and all whose results have a size that the run finds out."""
    cases = [case for case in suite_cases().values() if not case.excluded and case.unusual != "random numbers"]
    kinds = ("node", "pytorch-converted", "pytorch-operator") if every == 1 else ("node",)
    cases = sorted((case for case in cases if case.kind in kinds), key=lambda case: case.name)
    taken = {case.name: case for case in cases[::every]}
    taken |= {case.name: case for case in cases if case.name.startswith(UNSIZED)}
    by_opset: dict[tuple[tuple[str, int], ...], list[SuiteCase]] = {}
    for case in taken.values():
        by_opset.setdefault(opsets(case.model), []).append(case)
    found = {}
    for key, members in by_opset.items():
        for first in range(0, len(members), LARGEST_GROUP):
            label = " ".join(f"{domain or 'onnx'} {version}" for domain, version in key)
            found[f"{label} from {members[first].name}"] = members[first : first + LARGEST_GROUP]
    return found


def feeds_and_results(cases: list[SuiteCase]) -> tuple[dict[str, Any], dict[str, tuple[Any, SuiteCase]]]:
    """What to feed the merged model, and what is expected, by name."""
    feeds: dict[str, Any] = {}
    expected: dict[str, tuple[Any, SuiteCase]] = {}
    for index, case in enumerate(cases):
        inputs, outputs = next(iter(case.data()))
        graph = case.model.graph
        names = [value.name for value in graph.input]
        initialized = {tensor.name for tensor in graph.initializer}
        given = names if len(inputs) == len(names) else [name for name in names if name not in initialized]
        feeds.update({f"m{index}/{name}": value for name, value in zip(given, inputs, strict=False)})
        results = zip(graph.output, outputs, strict=False)
        expected.update({f"m{index}/{spec.name}": (value, case) for spec, value in results})
    return feeds, expected


def runs(model: onnx.ModelProto, feeds: dict[str, Any], devices: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Results of two runs each: as always, without any reuse of memory, and in poisoned memory."""
    ways: list[tuple[str, AbstractContextManager[None]]] = [("as always", nullcontext())]
    ways.append(("without reuse", without_reuse()))
    ways += [(f"poisoned with {byte:#x}", poisoned(byte)) for byte in PATTERNS]
    for label, way in ways:
        with way, mace.Session(model, devices=devices, cache=False) as session:
            yield label, session.run(feeds)
            yield f"{label}, again", session.run(feeds)


def differences(model: onnx.ModelProto, feeds: dict[str, Any], devices: list[str]) -> tuple[dict[str, Any], list[str]]:
    """The results of the first run, and what differs from it in the others."""
    (_, first), *others = runs(model, feeds, devices)
    return first, [
        f"{name} ({label})"
        for label, results in others
        for name, value in results.items()
        if not same_bits(value, first[name])
    ]


def check_group(cases: list[SuiteCase]) -> None:
    feeds, expected = feeds_and_results(cases)
    found, different = differences(merge_models([case.model for case in cases]), feeds, ["cpu"])
    assert different == []
    for name, (value, case) in expected.items():
        atol = max(LOOSER_ATOL.get(case.name, case.atol), TOLERANCE_OF_ZERO)
        try:
            assert_same(found[name], value, case.rtol, atol)
        except AssertionError as error:
            raise AssertionError(f"{case.name}, merged with others, is wrong: {error}") from None


def check_groups(found: dict[str, list[SuiteCase]]) -> None:
    """Check each, and tell all that are wrong."""
    wrong = []
    for name, cases in found.items():
        try:
            check_group(cases)
        except AssertionError as error:
            wrong.append(f"{name}: {error}")
    assert not wrong, "\n".join(wrong)


def test_independent_cases_in_one_model() -> None:
    check_groups(groups(SAMPLE))


@pytest.mark.full
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("share", range(SHARES))
def test_all_independent_cases_in_one_model(share: int) -> None:
    check_groups(dict(list(groups(1).items())[share::SHARES]))


# --- the mode itself --------------------------------------------------------------------------------------------------


def small_model(*nodes: onnx.NodeProto, output: int = TensorProto.FLOAT) -> onnx.ModelProto:
    """From x, float32 (6, 6), to y of unknown shape."""
    info = helper.make_tensor_value_info
    graph = helper.make_graph(list(nodes), "g", [info("x", TensorProto.FLOAT, [6, 6])], [info("y", output, ["a", "b"])])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def numbers() -> npt.NDArray[np.float32]:
    return np.random.default_rng(3).standard_normal((6, 6)).astype(np.float32)


def test_the_mode_finds_a_result_that_does_not_live_until_it_is_handed_over() -> None:
    import mace_cpu.shared.program.assemble

    honest = mace_cpu.shared.program.assemble.lifetimes

    def too_short(program: Any) -> Any:
        return {buf: (first, min(last, first)) for buf, (first, last) in honest(program).items()}

    model = small_model(helper.make_node("NonZero", ["x"], ["y"]), output=TensorProto.INT64)
    assert differences(model, {"x": numbers()}, ["cpu"])[1] == []
    planning = mock.patch.object(mace_cpu.shared.program.assemble, "lifetimes", too_short)
    with planning, mock.patch("mace_cpu.memory_checks.poisoned.lifetimes", too_short):
        assert differences(model, {"x": numbers()}, ["cpu"])[1] != []


def chain_over_two_devices() -> onnx.ModelProto:
    """The reference and the CPU provider in turn, so that values go through the core's arena."""
    nodes = [helper.make_node("Relu", ["x"], ["a0"], name="first")]
    for i in range(4):
        nodes.append(helper.make_node("Sin", [f"a{i}"], [f"b{i}"], name=f"sin{i}"))
        nodes.append(helper.make_node("Add", [f"b{i}", "a0"], [f"a{i + 1}"], name=f"add{i}"))
    nodes.append(helper.make_node("Neg", ["a4"], ["y"], name="last"))
    return small_model(*nodes)


def run_over_two_devices() -> npt.NDArray[Any]:
    pins = {"Sin": "reference", "Add": "cpu", "Relu": "cpu", "Neg": "cpu"}
    devices = ["cpu", "reference"]
    with mace.Session(chain_over_two_devices(), devices=devices, pins=pins, cache=False) as session:
        found: npt.NDArray[Any] = session.run({"x": numbers()})["y"]
        return found


def test_the_mode_finds_a_value_between_devices_that_does_not_live_until_it_is_read() -> None:
    from mace_core.scheduler.planning.plan import _Builder

    right = run_over_two_devices()
    for byte in PATTERNS:
        with poisoned(byte):
            np.testing.assert_array_equal(run_over_two_devices(), right)

    def forgets_reads(self: _Builder, step: Any, reads: Any, writes: Any) -> None:
        for register in writes:
            self.registers[register].first = self.registers[register].last = len(self.steps)
        self.steps.append(step)

    with poisoned(0xFF), mock.patch.object(_Builder, "_step", forgets_reads):
        assert not np.array_equal(run_over_two_devices(), right)


def test_the_mode_finds_an_output_that_nothing_writes() -> None:
    from mace_cpu.shared.parts.steps import Steps

    emit = Steps.emit

    def forgets_relu(self: Steps, *args: Any, **options: Any) -> None:
        if self._node is None or self._node.op_type != "Relu":
            emit(self, *args, **options)

    model = small_model(helper.make_node("Relu", ["x"], ["y"]))
    without_relu = mock.patch.object(Steps, "emit", forgets_relu)
    with poisoned(0xFF), without_relu, mace.Session(model, devices=["cpu"], cache=False) as session:
        found = session.run({"x": numbers()})["y"]
    assert (found.view(np.uint8) == 0xFF).all()


def test_what_is_stored_in_one_mode_is_not_used_in_the_other(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(small_model(*(helper.make_node("MatMul", [n, "x"], [m]) for n, m in ("xa", "ab", "by"))), path)

    def steps() -> list[str]:
        with mace.Session(path, devices=["cpu"]) as session:
            return [span.name for span in session.profile({"x": numbers()}).spans]

    plain = steps()
    with poisoned(0xFF):
        filled = [steps(), steps()]
    assert filled[0] == filled[1]
    assert "Poison" in filled[0]
    assert steps() == plain == [name for name in filled[0] if name != "Poison"]


@pytest.mark.parametrize("text", ["xx", "100", "-1"])
def test_a_pattern_that_is_no_byte_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, text)
    with pytest.raises(UsageError, match=f"{VARIABLE}={text} is not a byte"), mace.Session(chain_over_two_devices()):
        pass
