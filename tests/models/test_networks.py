"""Seeded networks of the kinds that phones run."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from mace_core.testing import models


@pytest.mark.parametrize("name", ["mobilenet_v2", "squeezenet1_1", "efficientnet_b0", "vit_tiny"])
def test_network_agrees(name: str, agree_with_onnxruntime, picture, tmp_path: Path) -> None:
    proto = getattr(models, name)()
    path = tmp_path / f"{name}.onnx"
    onnx.save(proto, str(path))
    agree_with_onnxruntime(path, [{proto.graph.input[0].name: picture(224, 224)}])
