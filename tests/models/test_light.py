"""The nine classic structures that ship with the onnx package, with seeded weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from mace_core.testing.light_models import LIGHT_MODELS, light_model

LARGE = ("vgg19", "zfnet512", "inception_v1", "bvlc_alexnet", "resnet50")
"""Large, and with nothing that inception_v2, densenet121 and the networks with random weights do not have."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.full] if name in LARGE else []) for name in LIGHT_MODELS]
)
def test_structure_agrees_and_varies_with_its_input(name: str, agree_with_onnxruntime, picture, tmp_path: Path) -> None:
    proto = light_model(name, seed=1)
    path = tmp_path / f"{name}.onnx"
    onnx.save(proto, str(path))
    constants = {initializer.name for initializer in proto.graph.initializer}
    (fed,) = [value for value in proto.graph.input if value.name not in constants]
    shape = [d.dim_value for d in fed.type.tensor_type.shape.dim]
    runs = [{fed.name: np.ascontiguousarray(picture(*shape[2:], seed)[:, : shape[1]])} for seed in (1, 2)]
    first, second = agree_with_onnxruntime(path, runs)["results"]
    for output in first:
        assert first[output].size == 1000
        assert np.isfinite(first[output]).all()
        assert np.abs(first[output] - second[output]).max() > 0.005 * np.ptp(first[output]) > 0
