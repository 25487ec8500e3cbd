"""What devices refuse is found, mended where another form is taken and computes the same, and told with the layer."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from topology_cases import CASES, Case

sys.path.insert(0, str(Path(__file__).parent.parent / "scheduler"))

from scheduler_models import constant, model, op, tensor
from scheduler_stand_ins import make_provider, registry_of

import mace_core as mace
from mace_core.cli.main import main
from mace_core.errors import DeviceNotFoundError, InputError, UsageError
from mace_core.frontend.onnx.export import to_onnx
from mace_core.graph import Node
from mace_core.numerics import make_samples, validate_samples
from mace_core.operators.bodies import given, made
from mace_core.topology import Rule, check_topology
from mace_core.topology.rule import RuleBuilder

NAMED = {
    "hexagon:v75": "mace_hexagon",
    "opencl:0": "mace_opencl",
    "npu:openvino-cpu": "mace_npu",
    "acme:sim0": "acme_npu",
}


def windows(size: int | str = 4) -> onnx.ModelProto:
    """What exporters make of windows of a picture: through six axes and back."""
    return model(
        [
            op("Reshape", ["x", "split"], ["a"]),
            op("Transpose", ["a"], ["b"], perm=[0, 1, 3, 5, 2, 4]),
            op("Reshape", ["b", "join"], ["c"]),
            op("Relu", ["c"], ["y"]),
        ],
        [tensor("x", [1, 8, 6, size])],
        [tensor("y", None)],
        [constant("split", np.int64([1, 8, 2, 3, 2, 2])), constant("join", np.int64([0, -1, 2, 2]))],
    )


def case_of(rule: str, number: int = 0) -> Case:
    return [case for case in CASES if case.rule == rule][number]


@pytest.mark.parametrize(
    ("device", "rule"),
    [
        ("hexagon:v75", "Einsum as MatMul"),
        ("hexagon:v75", "ConvTranspose in groups, one after the other"),
        ("hexagon:v75", "ConvTranspose with explicit padding, without output_padding"),
        ("opencl:0", "pooling of three dimensions as two poolings"),
        ("opencl:0", "LRN as AveragePool over channels"),
        ("opencl:0", "Resize as products with matrices of weights"),
        ("opencl:0", "GRU, one step after the other"),
        ("npu:openvino-cpu", "LpNormalization as a division by the norm"),
        ("acme:sim0", "Reshape to the shape itself"),
        ("acme:sim0", "Resize in the manner that more devices have"),
    ],
)
def test_a_real_provider_takes_the_form_that_mends(device: str, rule: str) -> None:
    pytest.importorskip(NAMED[device])
    for number in range(sum(case.rule == rule for case in CASES)):
        report = check_topology(case_of(rule, number).model(), device)
        if report.mended and report.mended[0].rule == rule:
            break
    else:
        pytest.fail("no case of the rule is refused before and taken after")
    assert report.accepted_after == report.nodes_after
    assert report.error is not None
    assert report.error <= 1e-5
    assert check_topology(report.graph, device).is_accepted


@pytest.mark.full
@pytest.mark.parametrize("device", NAMED)
def test_whatever_is_mended_is_taken_and_computes_the_same(device: str) -> None:
    pytest.importorskip(NAMED[device])
    mended = 0
    for case in CASES:
        report = check_topology(case.model(), device)
        for finding in report.findings:
            assert finding.reason
        if report.findings and not report.refused:
            mended += 1
            assert check_topology(report.graph, device).is_accepted
    assert mended >= {"hexagon:v75": 24, "opencl:0": 26, "npu:openvino-cpu": 4, "acme:sim0": 10}[device]


@pytest.mark.parametrize("device", ["hexagon:v75", "acme:sim0"])
def test_six_axes_between_two_changes_of_shape_are_not_needed(device: str) -> None:
    pytest.importorskip(NAMED[device])
    report = check_topology(windows("w"), device, shapes={"x": (1, 8, 6, 4)})
    assert [finding.op for finding in report.findings] == ["Reshape", "Transpose", "Reshape"]
    assert not report.refused
    assert (report.nodes_after, report.accepted_after, report.is_fixed) == (4, 4, True)
    x = np.random.default_rng(0).standard_normal((1, 8, 6, 4), np.float32)
    results = []
    for each in (windows(), to_onnx(report.graph)):
        with mace.Session(each, devices=["cpu"]) as session:
            results.append(session.run({"x": x})["y"])
    np.testing.assert_array_equal(*results)


def far(*claims: str) -> dict[str, object]:
    """A device that takes some operators alone."""
    return {"device": "far", "registry": registry_of(make_provider("far", claims=set(claims)))}


def test_the_layer_of_the_users_own_model_is_told() -> None:
    made_by = model([op("Erf", ["x"], ["y"])], [tensor("x", [2])], [tensor("y", [2])])
    entry = made_by.graph.node[0].metadata_props.add()
    entry.key, entry.value = "pkg.torch.onnx.stack_trace", 'File "net.py", line 7, in forward\n    return erf(x)'
    entry = made_by.graph.node[0].metadata_props.add()
    entry.key, entry.value = "pkg.torch.onnx.name_scopes", "['', 'head', 'erf']"
    report = check_topology(made_by, **far("Add"))  # type: ignore[arg-type]
    (finding,) = report.refused
    assert "far has no Erf" in finding.reason
    assert finding.before == "Erf(float32[2]) -> float32[2]"
    assert "net.py:7" in finding.layer
    assert "net.py:7" in str(report)
    assert "no rewrite mends the other 1" in report.summary()


def test_rewrites_within_rewrites() -> None:
    mish = model([op("Mish", ["x"], ["y"])], [tensor("x", [4])], [tensor("y", [4])], opset=18)
    simple = ("Mul", "Tanh", "Abs", "Neg", "Exp", "Add", "Log", "Relu")
    report = check_topology(mish, **far(*simple))  # type: ignore[arg-type]
    (finding,) = report.mended
    assert finding.rule == "Mish spelled out"
    assert set(finding.after) == set(simple)
    (finding,) = check_topology(mish, **far(*simple[1:])).refused  # type: ignore[arg-type]
    assert any("Mul" in why for why in finding.tried.values())


def test_a_rewrite_that_computes_something_else_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(b: RuleBuilder, node: Node) -> bool:
        b.op("Add", [given(node, 0), b.scalar_like(1e-3, given(node, 0))], into=made(node))
        return True

    def right(b: RuleBuilder, node: Node) -> bool:
        b.op("Add", [given(node, 0), b.scalar_like(0, given(node, 0))], into=made(node))
        return True

    table = {"Identity": [Rule("wrong", ("Identity",), wrong, True), Rule("right", ("Identity",), right, True)]}
    monkeypatch.setattr("mace_core.topology.check.rules_by_operator", lambda: table)
    identity = model([op("Identity", ["x"], ["y"])], [tensor("x", [4])], [tensor("y", [4])])
    arguments = {**far("Add"), "optimize": False}
    assert check_topology(identity, **arguments).mended[0].rule == "right"  # type: ignore[arg-type]
    table["Identity"].pop()
    (finding,) = check_topology(identity, **arguments).refused  # type: ignore[arg-type]
    assert finding.tried == {"wrong": "it does not compute the same here"}


def test_what_is_taken_alone_and_not_beside_its_neighbors_stays_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """The device is asked about the whole model once more."""
    sums = model([op("Sum", ["x", "x", "x"], ["t"]), op("Neg", ["t"], ["y"])], [tensor("x", [4])], [tensor("y", [4])])
    arguments = far("Add", "Neg")
    assert check_topology(sums, **arguments).accepted_after == 3  # type: ignore[arg-type]
    from mace_core.topology import check

    ask = check.ask_capability

    def jealous(device: object, view: object) -> object:
        answer = ask(device, view)  # type: ignore[arg-type]
        if len(view.nodes) < 3:  # type: ignore[attr-defined]
            return answer
        return type(answer)([claim for claim in answer.claims if claim.nodes[0].op_type != "Add"], [])

    monkeypatch.setattr(check, "ask_capability", jealous)
    (finding,) = check_topology(sums, **arguments).refused  # type: ignore[arg-type]
    assert "operator of many inputs, two at a time" in finding.tried


def test_a_package_of_rewritten_nodes_proves_itself(tmp_path: Path) -> None:
    pytest.importorskip("mace_hexagon")
    source, out = tmp_path / "w.onnx", tmp_path / "w.mace"
    onnx.save(windows("w"), source)
    x = np.random.default_rng(0).standard_normal((1, 8, 6, 4), np.float32)
    samples = make_samples(source, {"one": {"x": x}})
    arguments = {"devices": "hexagon:v75", "samples": samples, "repair": True, "strict": True}
    found = mace.compile(source, out, shapes={"x": x.shape}, **arguments)  # type: ignore[arg-type]
    assert len(found.repairs[0].mended) == 3
    assert validate_samples(out, devices=["hexagon:v75"], strict=True)[0].is_good
    with pytest.raises(UsageError, match="give one signature"):
        mace.compile(source, out, shapes=[{"x": x.shape}, {"x": x.shape}], **arguments)  # type: ignore[arg-type]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("acme_npu")
    monkeypatch.chdir(tmp_path)
    onnx.save(windows("w"), "w.onnx")
    asked = ["check", "w.onnx", "--device", "acme:sim0", "--shape", "x=1x8x6x4"]
    assert main(asked) == 3
    assert "--repair OUT.onnx writes the model with the rewrites" in capsys.readouterr().out
    assert main([*asked, "--json"]) == 3
    data = json.loads(capsys.readouterr().out)
    assert [each["rule"] for each in data["findings"]] == ["Reshape, Transpose, Reshape with fewer axes"] * 3
    assert main([*asked, "--repair", "mended.onnx"]) == 0
    assert "for the inputs x=1x8x6x4 alone" in capsys.readouterr().out
    assert main(["check", "mended.onnx", "--device", "acme:sim0"]) == 0
    assert "acme:sim0 takes all 4 nodes" in capsys.readouterr().out
    assert main([*asked, "--repair", "mended.txt"]) == 2
    assert main(["check", "w.onnx", "--device", "acme:sim1"]) == 2
    assert not list(tmp_path.glob(".*"))


def test_mistakes_are_told() -> None:
    with pytest.raises(DeviceNotFoundError, match="fahr"):
        check_topology(windows(), "fahr", registry=registry_of(make_provider("far")))
    with pytest.raises(InputError, match="'z'"):
        check_topology(windows(), shapes={"z": (1,)}, **far("Add"))  # type: ignore[arg-type]
