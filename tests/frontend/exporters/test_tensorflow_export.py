"""Keras files and TensorFlow SavedModels give what Keras computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mace_core import Session
from mace_core.errors import ModelError
from mace_core.frontend import load_model

for module in ("tensorflow", "keras", "tf2onnx"):
    pytest.importorskip(module, reason=f"{module} is not installed: pip install 'mace-core[tensorflow]'")
pytestmark = pytest.mark.full

import keras  # noqa: E402


@pytest.fixture(scope="module")
def net() -> Any:
    keras.utils.set_random_seed(0)
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            layers.Conv2D(8, 3, padding="same", activation="relu", name="first"),
            layers.BatchNormalization(name="norm"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(5, activation="softmax", name="scores"),
        ],
        name="net",
    )


@pytest.fixture(scope="module")
def x() -> Any:
    return np.random.default_rng(0).standard_normal((3, 16, 16, 3)).astype(np.float32)


def agrees(model: Any, net: Any, x: Any) -> None:
    with Session(model) as session:
        (found,) = session.run({session.inputs[0].name: x}).values()
    np.testing.assert_allclose(found, net(x).numpy(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["m.keras", "m.h5"])
def test_a_file_that_keras_saved(net: Any, x: Any, tmp_path: Path, name: str) -> None:
    net.save(tmp_path / name)
    agrees(tmp_path / name, net, x)
    origins = [str(origin) for origin in load_model(tmp_path / name).origins.values()]
    assert any("first" in origin for origin in origins)


def test_the_folder_of_a_saved_model_and_its_file(net: Any, x: Any, tmp_path: Path) -> None:
    net.export(tmp_path / "saved", verbose=False)
    agrees(tmp_path / "saved", net, x)
    graph = load_model(tmp_path / "saved" / "saved_model.pb")
    assert graph.metadata["mace.exported_by"].startswith("tf2onnx ")
    assert any(name.endswith("variables.index") for name in graph.other_files)


def test_a_model_that_a_program_holds(net: Any, x: Any) -> None:
    agrees(load_model(net), net, x)


def test_weights_alone_are_told(net: Any, tmp_path: Path) -> None:
    net.save_weights(tmp_path / "w.weights.h5")
    with pytest.raises(ModelError, match="the file holds weights alone"):
        load_model(tmp_path / "w.weights.h5")


def test_code_in_a_file_does_not_run(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    model = keras.Sequential([keras.Input((2,)), keras.layers.Lambda(lambda x, m=str(marker): (Path(m).touch(), x)[1])])
    model.save(tmp_path / "lambda.keras")
    marker.unlink(missing_ok=True)
    with pytest.raises(ModelError, match=r"cannot be exported to ONNX.*[Ll]ambda"):
        load_model(tmp_path / "lambda.keras")
    assert not marker.exists()
