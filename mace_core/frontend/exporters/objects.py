"""Models that a program holds as objects of a training framework."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mace_core.errors import ExporterError, UsageError
from mace_core.frontend.exporters.base import EXPORTED_BY, read_exported, require

if TYPE_CHECKING:
    from mace_core.graph import Graph


def load_object(model: Any, example_inputs: Any = None, **options: Any) -> Graph | None:
    """The graph of a model of PyTorch, Keras, TensorFlow or scikit-learn, or None for any other object.

    Args:
        model: a ``torch.nn.Module``, a ``torch.export.ExportedProgram``, a Keras model, a fitted estimator or pipeline
            of scikit-learn.
        example_inputs: of a module, a tensor, or a tuple of its arguments (needed); of an estimator, rows as it was
            fitted on (where columns have names or are no floats).
        options: for the exporter: of ``torch.onnx.export`` (``dynamic_shapes={"x": {0: "batch"}}``, ``input_names``,
            …), of ``skl2onnx.to_onnx`` for an estimator.

    Raises:
        ExporterError: if the exporter cannot export the model, or is not installed.
        UsageError: if an example is needed and not given.
    """
    names = {f"{kind.__module__}.{kind.__qualname__}" for kind in type(model).__mro__}
    label = f"the {type(model).__name__}"
    if "torch.nn.modules.module.Module" in names:
        require(("torch", "onnxscript"), "torch", f"{label} is a module of PyTorch")
        if example_inputs is None:
            raise UsageError(f"{label} is exported by running it: give example_inputs, a tensor or a tuple of them")
        return _written(label, lambda target: _write_module(model, example_inputs, target, options))
    if "torch.export.exported_program.ExportedProgram" in names:
        require(("torch", "onnxscript"), "torch", f"{label} is a program of torch.export")
        from mace_core.frontend.exporters.torch_program import write_onnx

        return _written(label, lambda target: write_onnx(model, (), target, **options))
    if any(name.startswith(("keras.", "tf_keras.")) and name.endswith(".Model") for name in names):
        require(("keras", "tensorflow", "tf2onnx"), "tensorflow", f"{label} is a Keras model")
        from mace_core.frontend.exporters.keras_model import write_model

        return _written(label, lambda target: write_model(model, target))
    if "sklearn.base.BaseEstimator" in names:
        require(("sklearn", "skl2onnx"), "sklearn", f"{label} is an estimator of scikit-learn")
        from mace_core.frontend.exporters.sklearn_model import write_estimator

        return _written(label, lambda target: write_estimator(model, example_inputs, target, **options))
    return None


def _write_module(model: Any, example_inputs: Any, target: Path, options: dict[str, Any]) -> str:
    from mace_core.frontend.exporters.torch_program import write_onnx

    arguments: Sequence[Any] = example_inputs if isinstance(example_inputs, tuple | list) else (example_inputs,)
    was_training = model.training
    model.eval()
    try:
        return write_onnx(model, tuple(arguments), target, **options)
    finally:
        model.train(was_training)


def _written(label: str, write: Callable[[Path], str]) -> Graph:
    from mace_core.frontend.exporters.child import reason

    with tempfile.TemporaryDirectory(prefix="mace-export-") as folder:
        target = Path(folder) / "exported.onnx"
        try:
            by = write(target)
        except Exception as error:  # frameworks raise anything: the user is told what
            raise ExporterError(f"{label} cannot be exported to ONNX: {reason(error)}") from error
        graph = read_exported(target, label)
    graph.metadata.setdefault(EXPORTED_BY, by)
    return graph
