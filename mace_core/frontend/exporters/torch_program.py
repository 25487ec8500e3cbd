"""Programs that ``torch.export.save`` wrote (.pt2), through torch.onnx."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from mace_core.frontend.base import ModelSource
from mace_core.frontend.exporters.base import ExporterFrontend
from mace_core.frontend.exporters.zip_names import zip_names

MOST_INLINE_BYTES = 1_500_000_000
"""Weights beyond this go beside the ONNX file: a protobuf message holds 2 GB."""


class TorchFrontend(ExporterFrontend):
    """Reads ``.pt2`` files.  Checkpoints (.pt, .pth) have no graph, and reading them runs code: they are refused."""

    name: ClassVar[str] = "torch"
    suffixes: ClassVar[tuple[str, ...]] = (".pt2",)
    what: ClassVar[str] = "a program of torch.export"
    needs: ClassVar[tuple[str, ...]] = ("torch", "onnxscript")
    extra: ClassVar[str] = "torch"
    exporter: ClassVar[str] = "mace_core.frontend.exporters.torch_program"

    def can_read(self, source: ModelSource) -> bool:
        """An archive with a program in it: of torch 2.9 and later, or of those before."""
        names = zip_names(source)
        is_new = any(name.endswith("/archive_format") for name in names)
        return (is_new and any("/models/" in name for name in names)) or "serialized_exported_program.json" in names

    def advised(self, answer: Mapping[str, Any]) -> str:
        said = str(answer["error"])
        if "No ONNX function found" in said or "No decompositions registered" in said:
            return f"{said}; torch.onnx has no translation of that operator: give it one with custom_translation_table"
        return said


def export(path: Path, target: Path) -> str:
    """Write a program as ONNX; runs in a process of its own."""
    import torch

    return write_onnx(torch.export.load(path), (), target)


def write_onnx(model: Any, arguments: tuple[Any, ...], target: Path, **options: Any) -> str:
    """Write a module or an exported program as ONNX.

    Args:
        model: a ``torch.nn.Module``, or a ``torch.export.ExportedProgram``.
        arguments: that a module is traced with.
        target: the file.
        options: of ``torch.onnx.export``.
    """
    import torch

    found = torch.onnx.export(model, arguments, dynamo=True, verbose=False, **options)
    assert found is not None
    weights = model.state_dict() if callable(model.state_dict) else model.state_dict
    size = sum(getattr(weight, "nbytes", 0) for weight in weights.values())
    found.save(str(target), external_data=size > MOST_INLINE_BYTES)
    return f"torch.onnx of torch {torch.__version__}"
