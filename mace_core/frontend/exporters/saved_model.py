"""TensorFlow SavedModels, through tf2onnx."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from mace_core.frontend.base import ModelSource
from mace_core.frontend.exporters.base import ExporterFrontend
from mace_core.host.file_forms import SAVED_MODEL_GRAPH


class SavedModelFrontend(ExporterFrontend):
    """Reads the folder of a SavedModel, or its file ``saved_model.pb``."""

    name: ClassVar[str] = "saved_model"
    suffixes: ClassVar[tuple[str, ...]] = ()
    what: ClassVar[str] = "a TensorFlow SavedModel"
    needs: ClassVar[tuple[str, ...]] = ("tensorflow", "tf2onnx")
    extra: ClassVar[str] = "tensorflow"
    exporter: ClassVar[str] = "mace_core.frontend.exporters.saved_model"

    def can_read(self, source: ModelSource) -> bool:
        return isinstance(source, Path) and source.name == SAVED_MODEL_GRAPH and source.is_file()

    def files_of(self, path: Path) -> Sequence[Path]:
        return sorted(file for file in (path.parent / "variables").glob("*") if file.is_file())

    def advised(self, answer: Mapping[str, Any]) -> str:
        said = str(answer["error"])
        if "serving_default" in said or "signature" in said.lower():
            return f"{said}; save it with a signature 'serving_default' (Keras: model.export('folder'))"
        return said


def export(path: Path, target: Path) -> str:
    """Write a SavedModel as ONNX; runs in a process of its own."""
    import runpy
    import sys

    import tf2onnx

    sys.argv = ["tf2onnx", "--saved-model", str(path.parent), "--output", str(target)]
    try:
        runpy.run_module("tf2onnx.convert", run_name="__main__")
    except SystemExit as ended:
        if ended.code:
            raise RuntimeError(f"tf2onnx ended with {ended.code}") from ended
    return f"tf2onnx {tf2onnx.__version__}"
