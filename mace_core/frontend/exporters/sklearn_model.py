"""Estimators and pipelines of scikit-learn, through skl2onnx.

A file of one is a pickle: reading it runs whatever code it holds.  It is refused unless the user says that it is
trusted; an object that a program holds already needs no such word.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from mace_core.errors import ExporterError
from mace_core.frontend.base import ModelSource
from mace_core.frontend.exporters.base import ExporterFrontend
from mace_core.frontend.exporters.trust import are_trusted


class SklearnFrontend(ExporterFrontend):
    """Reads ``.joblib`` and ``.pkl``, if they are trusted."""

    name: ClassVar[str] = "sklearn"
    suffixes: ClassVar[tuple[str, ...]] = (".joblib", ".pkl", ".pickle")
    what: ClassVar[str] = "a Python pickle, as scikit-learn's models are saved"
    needs: ClassVar[tuple[str, ...]] = ("sklearn", "skl2onnx")
    extra: ClassVar[str] = "sklearn"
    exporter: ClassVar[str] = "mace_core.frontend.exporters.sklearn_model"

    def can_read(self, source: ModelSource) -> bool:
        """By the name alone: what a pickle holds shows when its code runs."""
        return isinstance(source, Path) and source.suffix.lower() in self.suffixes

    def check(self, label: str) -> None:
        if not are_trusted():
            raise ExporterError(
                f"{label} is a Python pickle: reading it runs the code that it holds; if you trust whoever made it, "
                "write `mace --trust …` (in Python: within mace_core.frontend.trusted_files()), or load it yourself "
                "and give mace_core.load_model the estimator"
            )

    def advised(self, answer: Mapping[str, Any]) -> str:
        said = str(answer["error"])
        if "Unable to find a shape calculator" in said or "Unable to find a converter" in said:
            return (
                f"{said}; skl2onnx has no converter for that estimator: register one with update_registered_converter"
            )
        return said


def export(path: Path, target: Path) -> str:
    """Write an estimator out of a trusted file as ONNX; runs in a process of its own."""
    import joblib

    estimator = joblib.load(path)
    if not hasattr(estimator, "get_params"):
        raise TypeError(f"the file holds a {type(estimator).__module__}.{type(estimator).__name__}, not an estimator")
    return write_estimator(estimator, None, target)


def write_estimator(estimator: Any, example: Any, target: Path, **options: Any) -> str:
    """Write an estimator as ONNX.

    Args:
        estimator: fitted.
        example: rows as it was fitted on, which tell names and types of its inputs; None: float32 of as many columns
            as it was fitted on, in one input.
        target: the file.
        options: of ``skl2onnx.to_onnx``.
    """
    import skl2onnx
    from skl2onnx.common.data_types import FloatTensorType

    given = dict(options)
    if example is None and "initial_types" not in given:
        columns = getattr(estimator, "n_features_in_", None)
        if columns is None:
            raise TypeError(
                "the estimator does not tell how many columns it was fitted on: load it in a program of yours, and "
                "give mace_core.load_model an example of its input"
            )
        given["initial_types"] = [("X", FloatTensorType([None, columns]))]
    if "options" not in given and hasattr(estimator, "predict_proba"):
        given["options"] = {id(estimator): {"zipmap": False}}  # probabilities as a tensor, not as maps
    proto = skl2onnx.to_onnx(estimator, None if example is None else example[:1], **given)
    target.write_bytes(proto.SerializeToString())
    return f"skl2onnx {skl2onnx.__version__}"
