"""Models that Keras wrote (.keras, .h5), through Keras's own export to ONNX."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from mace_core.frontend.base import ModelSource
from mace_core.frontend.exporters.base import ExporterFrontend
from mace_core.frontend.exporters.zip_names import zip_names

_HDF5 = b"\x89HDF\r\n\x1a\n"


class KerasFrontend(ExporterFrontend):
    """Reads ``.keras`` and ``.h5``; Keras reads no code out of them (its ``safe_mode``)."""

    name: ClassVar[str] = "keras"
    suffixes: ClassVar[tuple[str, ...]] = (".keras", ".h5", ".hdf5")
    what: ClassVar[str] = "a Keras model"
    needs: ClassVar[tuple[str, ...]] = ("keras", "tensorflow", "tf2onnx")
    extra: ClassVar[str] = "tensorflow"
    exporter: ClassVar[str] = "mace_core.frontend.exporters.keras_model"

    def can_read(self, source: ModelSource) -> bool:
        names = zip_names(source)
        if names:
            return "config.json" in names and "metadata.json" in names
        try:
            if not isinstance(source, Path):
                return source[: len(_HDF5)] == _HDF5
            with source.open("rb") as file:
                return file.read(len(_HDF5)) == _HDF5
        except OSError:
            return False

    def advised(self, answer: Mapping[str, Any]) -> str:
        said = str(answer["error"])
        if "safe_mode" in said or "lambda" in said.lower():
            return f"{said} Load it in a program of yours, and give mace_core.load_model the model object."
        if "No model config found" in said or "model_config" in said:
            return "the file holds weights alone: save the whole model with model.save('model.keras')"
        return said


def export(path: Path, target: Path) -> str:
    """Write a model as ONNX; runs in a process of its own."""
    import keras

    return write_model(keras.models.load_model(_named(path, target), compile=False, safe_mode=True), target)


def write_model(model: Any, target: Path) -> str:
    """Write a Keras model as ONNX."""
    import contextlib
    import sys

    import keras
    import tf2onnx

    inputs = getattr(model, "inputs", None)
    with contextlib.redirect_stdout(sys.stderr):
        if inputs:  # Keras exports what has been called; a model that was just loaded has not
            model(inputs[0] if len(inputs) == 1 else inputs)
        model.export(str(target), format="onnx", verbose=False)
    return f"Keras {keras.__version__} with tf2onnx {tf2onnx.__version__}"


def _named(path: Path, target: Path) -> Path:
    """A path whose suffix says what the file is, which is what Keras goes by."""
    suffix = ".keras" if zip_names(path) else ".h5"
    if path.suffix == suffix:
        return path
    link = target.with_name(f"model{suffix}")
    link.symlink_to(path)
    return link
