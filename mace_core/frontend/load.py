"""Choosing the frontend for a model and loading it."""

from __future__ import annotations

import functools
import importlib
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from mace_core.errors import (
    ExporterError,
    MaceError,
    ModelError,
    ModelFileError,
    ModelIsFolderError,
    ModelNotFoundError,
    PackageError,
    UsageError,
    UsageTypeError,
    describe_error,
    model_file_error,
)
from mace_core.faults import limits_now
from mace_core.frontend.base import Frontend, ModelSource
from mace_core.frontend.importing import ImportOptions
from mace_core.graph import Graph
from mace_core.host.file_forms import PACKAGE_SUFFIX, SAVED_MODEL_GRAPH, is_package
from mace_core.host.waiting import within

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    import onnx

    from mace_core.frontend.file_kinds import FileKind
    from mace_core.package.reader import Package

ENTRY_POINT_GROUP = "mace.frontends"

Model: TypeAlias = "str | os.PathLike[str] | bytes | bytearray | memoryview | onnx.ModelProto | Graph"

_log = logging.getLogger("mace.frontend")

_FILE_SUFFIXES = (".onnx", ".mace", ".tflite")
"""Of what is never a folder: not looked at."""

BUILT_IN = {
    "onnx": "mace_core.frontend.onnx:OnnxFrontend",
    "tflite": "mace_core.frontend.tflite:TfliteFrontend",
    "torch": "mace_core.frontend.exporters.torch_program:TorchFrontend",
    "keras": "mace_core.frontend.exporters.keras_model:KerasFrontend",
    "saved_model": "mace_core.frontend.exporters.saved_model:SavedModelFrontend",
    "sklearn": "mace_core.frontend.exporters.sklearn_model:SklearnFrontend",
}
"""Entry points of the core itself: known also where its metadata are older, or it runs from a source tree."""

SNIFFED = 8
"""Bytes that tell a package."""


def load_model(
    model: Model | object,
    example_inputs: object = None,
    *,
    mmap: bool = True,
    signature: str | None = None,
    dynamic_range: str | None = None,
    **options: Any,
) -> Graph:
    """Import a model from a path, from bytes or from an ``onnx.ModelProto``, or take a Graph as it is.

    Objects of training frameworks are exported by the framework's own exporter: a ``torch.nn.Module``, a
    ``torch.export.ExportedProgram``, a Keras model, an estimator or pipeline of scikit-learn.

    Attributes come in the one form that is read (see ``mace_core.operators.attributes``), whatever the source.

    Args:
        model: the model.
        example_inputs: of a ``torch.nn.Module`` the tensor, or the tuple of arguments, that it is exported with; of an
            estimator rows as it was fitted on, where its columns have names or are no floats.
        mmap: keep weights as views into the mapped file.  A mapped file that somebody truncates while the graph is in
            use kills the process; ``mmap=False`` reads it into memory instead.
        signature: which of a file's graphs, where it holds several under names (signatures of TensorFlow Lite); None:
            the usual one.
        dynamic_range: of TensorFlow Lite's products of floats with weights in integers: ``integer``: the floats are
            stored in 8 bits in each run, as in LiteRT; ``float``: they stay as they are.
        options: for the exporter of an object: of ``torch.onnx.export`` (``dynamic_shapes={"x": {0: "batch"}}``), of
            ``skl2onnx.to_onnx``.

    Raises:
        ModelError: if the model cannot be read, is not valid, no frontend knows its format, or the exporter fails.
        UsageError: if ``model`` is none of the kinds above, or takes no example and options.
    """
    from mace_core.operators.attributes import settle_attributes

    graph = None if _is_model(model) else _from_object(model, example_inputs, options)
    if graph is None:
        if example_inputs is not None or options:
            raise UsageTypeError("example_inputs and options of an exporter are for objects of training frameworks")
        graph = _imported(model, ImportOptions.of(signature, dynamic_range), mmap=mmap)
    settle_attributes(graph)
    return graph


def _is_model(model: object) -> bool:
    return isinstance(model, Graph | str | os.PathLike | bytes | bytearray | memoryview) or _is_model_proto(model)


def _from_object(model: object, example_inputs: object, options: dict[str, Any]) -> Graph | None:
    from mace_core.frontend.exporters.objects import load_object

    return load_object(model, example_inputs, **options)


def _imported(model: Any, chosen: ImportOptions, *, mmap: bool) -> Graph:
    if isinstance(model, Graph):
        return model
    if isinstance(model, str | os.PathLike):
        path = model_path(model)
        check_file(path)
        frontend = _frontend_for(path, str(path)).importing(chosen)
        return _told_apart(frontend, path, lambda: frontend.load(path, path=path, mmap=mmap))
    if isinstance(model, bytes | bytearray | memoryview):
        content = bytes(model)
        if not content:
            raise ModelError("the model given as bytes is empty")
        frontend = _frontend_for(content, "the model given as bytes").importing(chosen)
        return _told_apart(frontend, content, lambda: frontend.load(content, mmap=mmap))
    if _is_model_proto(model):
        from mace_core.frontend.onnx import OnnxFrontend

        return OnnxFrontend().load_proto(model)
    raise UsageTypeError(
        "a model is a path, bytes, an onnx.ModelProto, a Graph, or an object of PyTorch, Keras or scikit-learn, not "
        f"{type(model).__module__}.{type(model).__name__}"
    )


def check_signature(model: str | os.PathLike[str], signature: str) -> None:
    """Raise for a format that has no signatures; what is no model is left to what reads it.

    Raises:
        UsageError: if files of this format hold one graph.
    """
    path = model_path(model)
    if not path.is_file():
        return
    try:
        frontend = _frontend_for(path, str(path))
    except MaceError:
        return
    frontend.choosing(signature)


def package_of(model: Model, *, cache: bool, mmap: bool) -> Package | None:
    """The package that a model is, whatever its name; None where it is something else.

    Args:
        model: the model.
        cache, mmap: see `mace_core.package.open_package`.

    Raises:
        PackageError: if it is a package and damaged, or one by its name alone.
        ModelError: if the file cannot be read.
    """
    from mace_core.frontend.package import first_bytes

    source: ModelSource
    if isinstance(model, str | os.PathLike):
        source = model_path(model)
        if source.suffix.lower() == PACKAGE_SUFFIX:
            check_file(source)
        elif not is_package(first_bytes(source)):
            return None
    elif isinstance(model, bytes | bytearray | memoryview) and is_package(bytes(model[:SNIFFED])):
        source = bytes(model)
    else:
        return None
    from mace_core.package.reader import open_package

    try:
        return open_package(source, mmap=mmap, cache=cache)
    except PackageError as error:
        kind = None if is_package(first_bytes(source)) else _kind_of(source)
        if kind is None:
            raise
        raise PackageError(f"{error}; it is {kind.what}: {kind.advice}") from None


def model_path(model: str | os.PathLike[str]) -> Path:
    """The path of the model's file; of a TensorFlow SavedModel, which is a folder, that of its graph.

    Raises:
        UsageError: if it is empty, which would mean the current folder.
    """
    if not os.fspath(model):
        raise UsageError("the path of the model is empty; give the path of an .onnx file")
    path = Path(model)
    if path.suffix.lower() not in _FILE_SUFFIXES and path.is_dir() and (path / SAVED_MODEL_GRAPH).is_file():
        return path / SAVED_MODEL_GRAPH
    return path


def check_file(path: Path) -> None:
    """Refuse what is not a readable, non-empty file.

    Raises:
        ModelError: saying what is wrong with ``path``.
    """
    try:
        if path.is_dir():
            from mace_core.frontend.file_kinds import folder_advice

            raise ModelIsFolderError(f"'{path}' is a folder, not a model file: {folder_advice(path)}", path)
        if not path.exists():
            from mace_core.frontend.file_kinds import similar_file

            if path.is_symlink():
                raise ModelNotFoundError(
                    f"the model file '{path}' is a link to '{path.readlink()}', which does not exist", path
                )
            near = similar_file(path)
            meant = f"; did you mean '{path.with_name(near)}'?" if near else ""
            raise ModelNotFoundError(f"there is no model file '{path}'{meant}", path)
        if not path.is_file():  # reading a pipe or a device might never end
            raise ModelError(f"'{path}' is not a regular file")
        if path.stat().st_size == 0:
            raise ModelError(f"the model file '{path}' is empty: fetch or export it again")
    except MaceError:
        raise
    except OSError as error:
        raise model_file_error(f"the model file '{path}' cannot be read: {error}", error, path) from error
    except ValueError as error:  # a NUL character in the path
        raise ModelError(f"the model file '{path}' cannot be read: {error}") from error


def _told_apart(frontend: Frontend, source: ModelSource, load: Callable[[], Graph]) -> Graph:
    """What ``load`` gives; where it fails on what is of another kind, the error says which kind and what to do."""
    try:
        return load()
    except (ExporterError, ModelFileError):
        raise
    except ModelError as error:
        kind = _kind_of(source)
        is_named_model = not isinstance(source, Path) or source.suffix.lower() in frontend.suffixes
        if kind is None or (is_named_model and frontend.can_read(source)):
            raise
        name = f"'{source}'" if isinstance(source, Path) else "the model given as bytes"
        raise ModelError(f"{name} is {kind.what}: {kind.advice}") from error


def _kind_of(source: ModelSource) -> FileKind | None:
    """What a source that no frontend reads is instead, where that is known."""
    from mace_core.frontend.file_kinds import foreign_kind

    return foreign_kind(_head_of(source), source if isinstance(source, Path) else None)


def _head_of(source: ModelSource) -> bytes:
    from mace_core.frontend.file_kinds import SNIFFED_BYTES

    if not isinstance(source, Path):
        return bytes(source[:SNIFFED_BYTES])
    try:
        with source.open("rb") as file:
            return file.read(SNIFFED_BYTES)
    except OSError:  # gone, or not readable any more: what was said before is all there is to say
        return b""


def _is_model_proto(model: Any) -> bool:
    onnx_module = sys.modules.get("onnx")  # whoever made a ModelProto has imported onnx
    return onnx_module is not None and isinstance(model, onnx_module.ModelProto)


def _frontend_for(source: ModelSource, label: str) -> Frontend:
    """The frontend that reads ``source``: by suffix first, then by content."""
    from mace_core.frontend.onnx import OnnxFrontend
    from mace_core.frontend.package import PackageFrontend
    from mace_core.frontend.tflite import TfliteFrontend

    packages = PackageFrontend()
    if packages.can_read(source):  # whatever its name is
        return packages
    builtin = OnnxFrontend()
    suffix = source.suffix.lower() if isinstance(source, Path) else ""
    if isinstance(source, Path) and source.name == SAVED_MODEL_GRAPH:  # its first bytes may be those of an ONNX model
        from mace_core.frontend.exporters.saved_model import SavedModelFrontend

        return SavedModelFrontend()
    lite = TfliteFrontend()
    if suffix not in builtin.suffixes and lite.can_read(source):
        return lite
    if suffix in builtin.suffixes or (not suffix and builtin.can_read(source)):  # without looking for plugins at all
        return builtin
    frontends, failures = installed_frontends()
    frontends.append(packages)
    by_suffix = [f for f in frontends if suffix and suffix in f.suffixes]
    others = [f for f in frontends if f not in by_suffix]
    for frontend in (*by_suffix, *others):
        try:
            readable = frontend.can_read(source)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            failures.append(f"'{frontend.name}' failed to look at the model ({describe_error(error)})")
            _log.warning("Frontend %s", failures[-1])
            continue
        if readable:
            return frontend
    if by_suffix:  # the name says so: let that frontend tell what is wrong with the content
        return by_suffix[0]
    known = ", ".join(sorted(f.name for f in frontends)) or "none"
    if kind := _kind_of(source):
        known += f"; it is {kind.what}: {kind.advice}"
    broken = f"; frontends that failed: {'; '.join(failures)}" if failures else ""
    raise ModelError(f"no frontend recognizes {_quoted(source, label)}; installed frontends: {known}{broken}")


def installed_frontends() -> tuple[list[Frontend], list[str]]:
    """The frontends that load, and a sentence for each that does not."""
    from importlib.metadata import entry_points

    frontends: list[Frontend] = []
    failures: list[str] = []
    seen: dict[str, str] = {}
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        origin = f"{entry.dist.name} {entry.dist.version}" if entry.dist is not None else "an unknown distribution"
        if entry.name in seen:
            if seen[entry.name] != origin:
                failures.append(f"'{entry.name}' of {origin} is ignored: {seen[entry.name]} provides one of that name")
                _log.warning("Frontend %s", failures[-1])
            continue
        seen[entry.name] = origin
        try:
            frontend = within(
                limits_now().import_seconds,
                entry.name,
                f"importing {entry.value}",
                functools.partial(_made, entry),
                limit="import_seconds",
            )
            if not isinstance(frontend, Frontend):
                raise TypeError(f"{entry.value} is not a mace_core.frontend.Frontend")
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # whatever a third-party module raises on import: kept as data
            failures.append(f"'{entry.name}' of {origin} cannot be loaded ({describe_error(error)})")
            _log.warning("Frontend %s", failures[-1])
            continue
        frontends.append(frontend)
    for name, place in BUILT_IN.items():
        if name not in seen:
            module, _, attribute = place.partition(":")
            frontends.append(getattr(importlib.import_module(module), attribute)())
    return frontends, failures


def _made(entry: EntryPoint) -> object:
    return entry.load()()


def _quoted(source: ModelSource, label: str) -> str:
    return f"'{label}'" if isinstance(source, Path) else label
