"""Convolutions by Winograd's algorithm, which a library may have as an extension."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from apu_support import StandIn, build
from lowering_support import lowered, node, operations
from mace_apu.lowering.winograd import LEAST_GAIN, WINOGRAD, Form, Winograd
from mace_apu.neuron.constants import Fuse, OperandCode, Operation, Result
from mace_apu.provider import ApuProvider

from mace_core.errors import UsageError
from mace_core.provider import Device
from mace_core.session import Session
from mace_core.testing.network import NetworkBuilder

SHAPE = (2, 8, 15, 14)
FEEDS = {"x": np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)}
EXTENSION_OPERATION = 0x10000
"""What the stand-in calls it."""


def weights(net: NetworkBuilder, outputs: int, inputs: int) -> str:
    return net.constant(net.normal((outputs, inputs, 3, 3), (9 * inputs) ** -0.5))


def network() -> onnx.ModelProto:
    """Three that may be computed so, with an activation, padding on one side and none; a larger kernel and a stride."""
    net = NetworkBuilder("convolutions", SHAPE, seed=3)
    x = net.relu6(net.conv("x", 8, 16, 3))
    x = net.op("Conv", x, weights(net, 16, 16), pads=[2, 0, 0, 1])
    x = net.op("Conv", x, weights(net, 12, 16))
    x = net.conv(net.conv(x, 12, 12, 3, stride=2), 12, 6, 5)
    return net.build(x, (2, 6, 7, 7))


@pytest.fixture(scope="module")
def model() -> onnx.ModelProto:
    return network()


@pytest.fixture(scope="module")
def expected(model: onnx.ModelProto) -> np.ndarray:
    with Session(model, devices=["cpu"], cache=False) as session:
        return next(iter(session.run(FEEDS).values())).copy()


def run(model: onnx.ModelProto, device: Device, **options: object) -> tuple[np.ndarray, list[str]]:
    """The result on a device, and how each convolution was computed."""
    with Session(model, devices=[device.qualified_name], strict=True, cache=False, options={"apu": options}) as session:
        (found,) = session.run(FEEDS).values()
        return found.copy(), [entry.note for entry in session.explain().nodes if entry.op == "Conv"]


@pytest.mark.parametrize(
    ("precision", "winograd", "block", "tolerance"),
    [
        ("float32", "auto", 4, 1e-5),
        ("float32", 2, 2, 1e-5),
        ("float16", "auto", 2, 5e-3),
        ("float16", 4, 4, 2e-2),
    ],
)
def test_results_are_those_of_a_direct_convolution(
    model: onnx.ModelProto,
    expected: np.ndarray,
    device: Device,
    precision: str,
    winograd: object,
    block: int,
    tolerance: float,
) -> None:
    """The tolerance is a share of the range of the results."""
    found, notes = run(model, device, precision=precision, winograd=winograd)
    direct, none = run(model, device, precision=precision, winograd="off")
    assert [f"F({block}x{block}, 3x3)" in note for note in notes] == [True, True, True, False, False]
    assert none == [""] * 5
    assert not np.array_equal(found, direct), "it is another way to compute"
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * float(np.ptp(expected)))


def test_a_library_without_the_extension_convolves_directly_and_the_reason_is_kept(
    model: onnx.ModelProto, expected: np.ndarray, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MACE_NEURON_LIB_DIR", str(build("-DNO_EXTENSIONS")))
    (device,) = ApuProvider().probe().devices
    found, notes = run(model, device, precision="float32")
    reason = "CONV_2D, not Winograd's algorithm: the Neuron Adapter 8.2.0 has no extension 'mace.winograd'"
    assert notes == [reason] * 3 + [""] * 2
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * float(np.ptp(expected)))


def test_an_old_library_has_no_extensions(
    model: onnx.ModelProto, stand_in: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(stand_in.path, tmp_path)
    monkeypatch.setenv("MACE_NEURON_LIB_DIR", str(tmp_path))
    with StandIn(tmp_path).version(4, 6, 0):
        (device,) = ApuProvider().probe().devices
        _, notes = run(model, device)
    assert notes[0].endswith("the Neuron Adapter 4.6.0 has no extensions, which came with 5.0.0")


def test_a_form_that_the_library_refuses_is_convolved_directly(
    model: onnx.ModelProto, expected: np.ndarray, device: Device, stand_in: StandIn
) -> None:
    with stand_in.refusing([EXTENSION_OPERATION]):
        found, notes = run(model, device, precision="float32")
    assert notes[0].startswith("CONV_2D, not Winograd's algorithm: the Neuron Adapter 8.2.0 runs the convolution by")
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * float(np.ptp(expected)))


def test_an_extension_that_fails_to_answer_is_not_used(
    model: onnx.ModelProto, device: Device, stand_in: StandIn
) -> None:
    with stand_in.failing("NeuronModel_getExtensionOperationType", Result.OP_FAILED):
        _, notes = run(model, device)
    assert "NEURON_OP_FAILED" in notes[0]
    with stand_in.failing("NeuronDevice_getExtensionSupport", Result.BAD_STATE):
        _, notes = run(model, device)
    assert "NEURON_BAD_STATE" in notes[0]


def test_what_is_stored_tells_how_it_computes(
    model: onnx.ModelProto, device: Device, stand_in: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second process asks and compiles nothing; other options have networks of their own."""
    monkeypatch.setenv("MACE_CACHE_DIR", str(tmp_path))
    seen = []
    for options, fault in (({}, None), ({}, "NeuronCompilation_finish"), ({"winograd": "off"}, None)):
        stand_in.fail("NeuronCompilation_finish", Result.OP_FAILED if fault else Result.NO_ERROR)
        try:
            with Session(model, devices=[device.qualified_name], strict=True, options={"apu": options}) as session:
                (found,) = session.run(FEEDS).values()
                notes = [entry.note for entry in session.explain().nodes if entry.op == "Conv"]
                seen.append((found.copy(), notes))
        finally:
            stand_in.fail("NeuronCompilation_finish", Result.NO_ERROR)
    np.testing.assert_array_equal(seen[0][0], seen[1][0])
    assert seen[0][1] == seen[1][1]
    assert "F(2x2, 3x3)" in seen[0][1][0]
    assert seen[2][1] == [""] * 5


def form(picture: tuple[int, ...], result: tuple[int, ...]) -> Form:
    return Form(OperandCode.TENSOR_FLOAT32, picture, result, (1, 1, 1, 1), Fuse.NONE)


def test_the_gain_is_that_of_the_paper() -> None:
    """Without transformations, F(2x2, 3x3) takes 16 products for 36 and F(4x4, 3x3) 36 for 144."""
    deep = form((1, 56, 56, 4096), (1, 56, 56, 4096))
    assert deep.gain(2) == pytest.approx(36 / 16, rel=0.01)
    assert deep.gain(4) == pytest.approx(144 / 36, rel=0.02)
    for block in (2, 4):
        assert form((1, 1, 1, 64), (1, 1, 1, 64)).gain(block) < 1, "most of a tile is thrown away"
        assert form((1, 56, 56, 1), (1, 56, 56, 1)).gain(block) < 1, "most is transformation"


def test_the_block_that_gains_most_is_chosen_and_none_where_none_gains() -> None:
    known = Winograd((2, 4))
    large, odd = form((1, 56, 56, 64), (1, 56, 56, 64)), form((1, 6, 6, 64), (1, 6, 6, 64))
    assert known.choose(large)[0] == 4
    assert known.choose(odd)[0] == 2
    block, note = known.choose(form((1, 56, 56, 1), (1, 56, 56, 1)))
    assert (block, note.startswith("CONV_2D: Winograd's algorithm would take ")) == (0, True)
    known.answer(large, 4, "not that large")
    assert known.choose(large)[0] == 2
    known.answer(large, 2, "not at all")
    assert known.choose(large) == (0, "CONV_2D, not Winograd's algorithm: not that large")
    assert LEAST_GAIN > 1


def test_only_plain_real_convolutions_of_constant_weights_are_computed_so() -> None:
    weights = {"w": np.ones((8, 8, 3, 3), np.float32)}
    for attributes in ({"strides": [2, 2]}, {"dilations": [2, 2]}):
        nodes = [node("Conv", ["x", "w"], pads=[1, 1, 1, 1], **attributes)]
        assert Operation.CONV_2D in operations(lowered(nodes, (1, 8, 16, 16), weights, winograd=Winograd((2, 4))))
    grouped = {"w": np.ones((8, 4, 3, 3), np.float32)}
    nodes = [node("Conv", ["x", "w"], group=2)]
    assert Operation.GROUPED_CONV_2D in operations(lowered(nodes, (1, 8, 16, 16), grouped, winograd=Winograd((2, 4))))
    found = lowered([node("Conv", ["x", "w"])], (1, 8, 16, 16), weights, winograd=Winograd((2, 4)))
    assert WINOGRAD in operations(found)
    assert len(found.notes) == 1


@pytest.mark.parametrize("value", [3, True, "on", "", 2.0, None])
def test_other_values_of_the_option_are_refused(device: Device, value: object) -> None:
    with pytest.raises(UsageError, match="the apu option 'winograd' is auto, off, 2 or 4, not"):
        ApuProvider().open(device, {"winograd": value})
