"""Sound as mel spectra, in the graph: what numpy's transform gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

import mace_core as mace
from mace_core.errors import UsageError
from mace_core.processing import Sound, parse_step, with_steps
from mace_core.processing.sound import mel_weights


def handing_on(shape: list[Any], opset: int = 17) -> onnx.ModelProto:
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "hand on", ends[:1], ends[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def expected(step: Sound, sound: np.ndarray) -> np.ndarray:
    """(mels, frames) by the fast transform, in float64."""
    starts = range(0, len(sound) - step.frame + 1, step.hop)
    frames = np.stack([sound[start : start + step.frame] for start in starts]).astype(np.float64)
    turns = 2 * np.pi * np.arange(step.frame) / step.frame
    windows = {"hann": 0.5 - 0.5 * np.cos(turns), "hamming": 0.54 - 0.46 * np.cos(turns), "rectangle": turns * 0 + 1}
    power = np.abs(np.fft.rfft(frames * windows[step.window], step.size)) ** step.power
    found = mel_weights(step).astype(np.float64) @ power.T
    if step.log != "none":
        found = np.log(np.maximum(found, step.floor)) / {"ln": 1, "log10": np.log(10), "db": np.log(10) / 10}[step.log]
    return (found - step.mean) * step.factor


@settings(max_examples=12)
@given(
    st.sampled_from(["hann", "hamming", "rectangle"]),
    st.sampled_from(["ln", "log10", "db", "none"]),
    st.sampled_from(["htk", "slaney"]),
    st.sampled_from([1, 2]),
    st.sampled_from([11, 13, 17]),
    st.integers(0, 40),
)
def test_spectra_are_those_of_a_transform(
    window: str, log: str, scale: str, power: int, opset: int, extra: int
) -> None:
    """The law: for every window, logarithm, scale and opset, and any number of samples."""
    step = Sound(
        20, frame=64, hop=24, fft=96, window=window, log=log, scale=scale, power=power, low=50, mean=1, factor=2
    )
    sound = np.random.default_rng(extra).uniform(-1, 1, 64 + 5 * 24 + extra).astype(np.float32)
    graph = with_steps(handing_on([1, "frames", 20], opset), [step]).graph
    with mace.Session(graph, devices=["cpu"], strict=True, cache=False) as session:
        found = session.run({"x": sound})["y"]
    reference = expected(step, sound)
    np.testing.assert_allclose(found[0].T, reference, atol=2e-4 * max(np.abs(reference).max(), 1))


@pytest.mark.parametrize("shape", [[1, 12, 9], [1, 9, 12], [1, 1, 9, 12], [1, 9, 12, 1], ["n", 12, 1, 9]])
def test_every_order_of_axes_and_int16(shape: list[Any]) -> None:
    step = Sound(12, frame=50, hop=20, int16=True)
    graph = with_steps(handing_on(shape), [step]).graph
    assert graph.inputs[0].type is not None
    assert str(graph.inputs[0].type) == f"int16[{8 * 20 + 50}]"
    sound = np.random.default_rng(0).integers(-30000, 30000, 210).astype(np.int16)
    with mace.Session(graph, devices=["cpu"], cache=False) as session:
        found = session.run({"x": sound})["y"]
    assert found.shape == tuple(1 if size == "n" else size for size in shape)
    values = found.reshape([size for size in shape if size not in (1, "n")])
    values = values if values.shape[0] == 12 else values.T
    np.testing.assert_allclose(values, expected(step, sound / 32768), atol=2e-3)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("sound mels=0", "whole numbers from 1 on"),
        ("sound", "sound needs mels=N"),
        ("sound mels=4 fft=10", "does not hold a frame of 400"),
        ("sound mels=4 window=flat", "window is hann, hamming, rectangle, not 'flat'"),
        ("sound mels=4 high=9000", "do not fit 16000 samples a second"),
    ],
)
def test_mistakes_are_told(text: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        parse_step(text, is_before=True)


def test_a_model_of_something_else_is_told() -> None:
    with pytest.raises(UsageError, match="spectra of 12 mels need one axis of that size"):
        with_steps(handing_on([1, 3, 8, 8]), [parse_step("sound mels=12", is_before=True)])
