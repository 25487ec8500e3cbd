"""Models in onnxruntime's own format (.ort), saved as ONNX."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import onnx
import onnxruntime


def onnx_of(model: Path, folder: Path) -> Path:
    """The ONNX file of an .ort model, made in ``folder`` unless it is there.

    onnxruntime writes it as it is, without optimizing it.  What it leaves out is put back: nested graphs get names, and
    operator sets that no node uses, among them onnxruntime's own, go.
    """
    recipe = hashlib.sha256(model.read_bytes() + Path(__file__).read_bytes() + onnxruntime.__version__.encode())
    target = folder / f"{model.stem}-{recipe.hexdigest()[:12]}.onnx"
    if target.exists():
        return target
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_suffix(f".{os.getpid()}")
    try:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 3
        options.add_session_config_entry("session.save_model_format", "ONNX")
        options.optimized_model_filepath = str(unfinished)
        onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        saved = onnx.load(str(unfinished))
        _complete(saved)
        onnx.save(saved, str(unfinished))
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)
    return target


def _complete(model: onnx.ModelProto) -> None:
    used: set[str] = set()
    for graph in _graphs(model.graph):
        used.update("" if node.domain == "ai.onnx" else node.domain for node in graph.node)
    for number, graph in enumerate(_graphs(model.graph)):
        graph.name = graph.name or f"graph_{number}"
    kept = [each for each in model.opset_import if ("" if each.domain == "ai.onnx" else each.domain) in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _graphs(attribute.g)
            for nested in attribute.graphs:
                yield from _graphs(nested)
