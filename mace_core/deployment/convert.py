"""From a deployment file to packages and libraries: read, check, convert, compare, build."""

from __future__ import annotations

import contextlib
import json
import urllib.parse
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from mace_core.deployment.files import Files
from mace_core.deployment.interface import cut
from mace_core.deployment.layout import REPORT, building
from mace_core.deployment.libraries import build_libraries
from mace_core.deployment.litert import LiteRtModel
from mace_core.deployment.meaning import without_meaning
from mace_core.deployment.one_graph import GraphWork, Surroundings
from mace_core.deployment.outcome import Conversion, as_data
from mace_core.deployment.read import DEFAULT_GRAPH, read_deployment
from mace_core.deployment.request import Request
from mace_core.deployment.schema import Deployment, GraphKeys, ModelKeys, abi_name
from mace_core.deployment.values import SAFE_NAME
from mace_core.deployment.yaml_tree import ConfigError, Document
from mace_core.errors import ModelError, UsageError, shorten
from mace_core.frontend.load import load_model
from mace_core.json_values import json_value
from mace_core.progress import report

_EXPORTS = {
    "tensorflow": "python -m tf2onnx.convert --graphdef MODEL.pb --inputs … --outputs … --output MODEL.onnx",
    "keras": "python -m tf2onnx.convert --keras MODEL.h5 --output MODEL.onnx",
    "pytorch": "torch.onnx.export(model, inputs, 'MODEL.onnx')",
    "caffe": "the package caffe2onnx",
    "megengine": "mgeconvert's mge_to_onnx",
}


_READ = {"pytorch": (".pt2",), "keras": (".keras", ".h5", ".hdf5")}
"""Files of other platforms that a frontend exports itself, where the framework is installed."""


def convert_deployment(path: Path, request: Request) -> Conversion:
    """Convert all models of a deployment file.

    Raises:
        ConfigError: if the file, or a file that it names, says something that cannot be done.
        MaceError: if a model cannot be read, compiled or written.
    """
    deployment, document = read_deployment(path)
    return _Conversion(deployment, document, path.absolute().parent, request).run()


class _Conversion:
    def __init__(self, deployment: Deployment, document: Document, folder: Path, request: Request) -> None:
        self._deployment = _with(deployment, request)
        self._document = document
        self._files = Files(folder)
        self._request = request
        name = self._deployment.library_name
        self._done = Conversion(request.output / name, name, self._deployment.target_abis)

    def run(self) -> Conversion:
        self._done.notes += self._document.notes
        for path, why in without_meaning(self._deployment):
            self._done.notes.append(f"{self._place(path)}: {path[-1]} means nothing here: {why}")
        for name, model in self._deployment.models.items():
            self._check_platform(name, model)
        sources = {name: self._source(name, model) for name, model in self._deployment.models.items()}
        with building(self._done.folder) as staging:
            (staging / "model").mkdir()
            graphs = [(n, m, g, k) for n, m in self._deployment.models.items() for g, k in m.subgraphs.items()]
            for number, (name, model, graph_name, keys) in enumerate(graphs):
                report("converting models", number, len(graphs))
                self._convert(staging, name, model, graph_name, keys, sources[name])
            report("converting models", len(graphs), len(graphs))
            if self._request.libraries:
                self._done.libraries = build_libraries(
                    staging,
                    {model.package.stem: model.package for model in self._done.models if model.package is not None},
                    self._deployment.target_abis,
                    self._deployment.library_name,
                    optimize=self._request.optimize,
                    weights="inside" if self._deployment.model_data_format == "code" else "file",
                )
            self._leave_out_packages(staging)
            self._done.notes += self._files.notes
            write_report(staging, self._done)
        return self._done

    def _leave_out_packages(self, staging: Path) -> None:
        """What is code is in the libraries alone."""
        done = self._done
        if self._deployment.model_graph_format != "code":
            return
        if not done.libraries or any(each.failure for each in done.libraries):
            done.notes.append("model_graph_format: code leaves out packages, but not where a library is missing")
            return
        for model in done.models:
            if model.package is not None:
                (staging / model.package).unlink()
                model.package = None
        with contextlib.suppress(OSError):  # ranges and pages stay there
            (staging / "model").rmdir()

    def _place(self, path: Sequence[str]) -> str:
        tree_path: tuple[str | int, ...] = tuple(path)
        if len(tree_path) > 3 and tree_path[3] == DEFAULT_GRAPH and (*tree_path[:3], 0) in self._document.lines:
            tree_path = (*tree_path[:3], 0, *tree_path[4:])
        if len(path) == 5 and tree_path not in self._document.lines:  # a key of a graph that its model says for it
            of_model = (*path[:2], path[4])
            tree_path = of_model if of_model in self._document.lines else tree_path
        return self._document.place(tree_path)

    def _check_platform(self, name: str, model: ModelKeys) -> None:
        suffix = PurePosixPath(urllib.parse.urlsplit(model.model_file_path).path).suffix.lower()
        if model.platform in _EXPORTS and suffix not in _READ.get(model.platform, ()):
            raise ConfigError(
                f"{self._place(('models', name, 'platform'))}: models of {model.platform} are not read; export it to "
                f"ONNX ({_EXPORTS[model.platform]}), and write platform: onnx"
            )

    def _source(self, name: str, model: ModelKeys) -> Path:
        place = self._place(("models", name, "model_file_path"))
        found = self._files.find(model.model_file_path, place, "model_file_path", model.model_sha256_checksum)
        if not model.model_sha256_checksum:
            self._done.notes.append(f"{place}: '{name}' has no model_sha256_checksum: any file of that name is taken")
        return found

    def _convert(
        self, staging: Path, name: str, model: ModelKeys, graph_name: str, keys: GraphKeys, source: Path
    ) -> None:
        path = ("models", name, "subgraphs", graph_name)
        try:
            graph = load_model(source)
        except ModelError as error:
            error.add_context(self._place(("models", name, "model_file_path")))
            raise
        part = cut(graph, keys, model.platform, lambda key: self._place((*path, key)), f"'{source.name}'")
        around = Surroundings(
            self._request,
            self._deployment.target_abis,
            self._deployment.target_socs,
            self._deployment.library_name,
            self._files,
            self._place(path),
            lambda key: self._place((*path, key)),
        )
        stem = name if len(model.subgraphs) == 1 else f"{name}.{_safe(graph_name)}"
        peer = None
        if model.platform == "tflite":
            peer = LiteRtModel.of(source, graph)
        work = GraphWork(around, name, graph_name, stem, source, part, keys, obfuscates=model.obfuscate, peer=peer)
        self._done.models.append(work.run(staging))


def write_report(folder: Path, done: Conversion) -> None:
    """Write what was done to the folder of a conversion."""
    text = json.dumps(json_value(as_data(done)), indent=2, ensure_ascii=False, allow_nan=False)
    (folder / REPORT).write_text(text + "\n", encoding="utf-8")


def checked_abis(names: Sequence[str]) -> tuple[str, ...]:
    """
    Raises:
        UsageError: for an ABI that there is not.
    """
    try:
        return tuple(dict.fromkeys(abi_name(each) for each in names))
    except ValueError as error:
        raise UsageError(f"--target-abis {error}") from None


def _with(deployment: Deployment, request: Request) -> Deployment:
    """The deployment with what the command line says in place of the file."""
    changes: dict[str, Any] = {}
    if request.target_abis:
        changes["target_abis"] = checked_abis(request.target_abis)
    if request.target_socs:
        changes["target_socs"] = request.target_socs
    if request.graph_format:
        changes["model_graph_format"] = request.graph_format
    if request.data_format:
        changes["model_data_format"] = request.data_format
    chosen = deployment.model_copy(update=changes)
    if chosen.model_graph_format == "file" and chosen.model_data_format == "code":
        raise UsageError(
            "the model_data_format code needs the graph in code, too, and the model_graph_format is file: give "
            "--model-graph-format code, or --model-data-format file"
        )
    return chosen


def _safe(name: str) -> str:
    if not SAFE_NAME.fullmatch(name):
        raise ConfigError(
            f"subgraphs: the graph '{shorten(name, 60)}' is called what no file can be; use letters, digits, _ . + -"
        )
    return name
