"""Silero VAD, a streaming model: 100 steps, each fed the state the one before returned."""

from __future__ import annotations

import numpy as np
import onnxruntime

import mace_core as mace
from mace_core.testing.models import SILERO_VAD, find_packaged_model, sample_speech

STEPS = 100
SAMPLES = 512
CONTEXT = 64
RATE = 16000


def test_100_steps_with_state_agree() -> None:
    path = find_packaged_model(*SILERO_VAD)
    theirs = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in theirs.get_outputs()]
    state_in = next(i for i in theirs.get_inputs() if "state" in i.name or len(i.shape) == 3)
    audio_in = next(i for i in theirs.get_inputs() if i.name != state_in.name and i.name != "sr")
    state_out = next(n for n in names if "state" in n.lower())
    samples = sample_speech(STEPS * SAMPLES / RATE + 0.1)
    state_shape = [d if isinstance(d, int) else 1 for d in state_in.shape]
    mine = right = np.zeros(state_shape, np.float32)
    probabilities = []
    with mace.Session(str(path), devices=["cpu"], strict=True) as session:
        context = np.zeros(CONTEXT, np.float32)
        for step in range(STEPS):
            chunk = samples[step * SAMPLES : (step + 1) * SAMPLES]
            feeds = {audio_in.name: np.concatenate([context, chunk])[None]}
            context = chunk[-CONTEXT:]
            if any(i.name == "sr" for i in theirs.get_inputs()):
                feeds["sr"] = np.array(RATE, np.int64)
            found = session.run({**feeds, state_in.name: mine})
            expected = dict(zip(names, theirs.run(None, {**feeds, state_in.name: right}), strict=True))
            for name, array in expected.items():
                spread = max(float(np.ptp(array)), 1.0 if array.size == 1 else 0.0)
                assert float(np.abs(found[name] - array).max()) <= 1e-4 * spread, f"step {step}: {name}"
            mine, right = found[state_out], expected[state_out]
            probabilities.append(float(next(found[n] for n in names if n != state_out).reshape(-1)[0]))
        assert session.explain().fallback_count == 0
    assert max(probabilities) - min(probabilities) > 0.01, "the probability does not react to the sound"
