"""From ONNX to the formats of engines that do not read it.  What was converted once is kept.

A .tflite file is not converted: it is for the engines that read it.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.compare.catalogue import PreparedModel

_SECONDS = 300


class NotConvertibleError(Exception):
    """The engine has no form of this model; the message says why."""


def convert(prepared: PreparedModel, form: str, folder: Path) -> Path:
    """The model in the format ``form``: a file, or for ncnn a folder of two.

    Raises:
        NotConvertibleError: if there is no way to it.
    """
    if prepared.is_lite:
        if form != "tflite":
            raise NotConvertibleError("it reads no .tflite file")
        return prepared.model
    if form == "onnx":
        return prepared.model
    converter = _CONVERTERS[form]
    try:
        version = importlib.metadata.version(converter.distribution)
    except importlib.metadata.PackageNotFoundError:
        install = f"'pip install {converter.distribution}' brings it"
        raise NotConvertibleError(f"its converter is not installed: {install}") from None
    source = convert(prepared, converter.source, folder) if converter.source else None
    recipe = hashlib.sha256(prepared.model.read_bytes())
    recipe.update(repr((sorted(prepared.shapes.items()), version)).encode())
    for name in converter.modules:
        recipe.update(Path(__file__).with_name(name).read_bytes())
    target = folder / f"{prepared.name}-{recipe.hexdigest()[:12]}{converter.suffix}"
    if not target.exists():
        unfinished = folder / f"unfinished-{os.getpid()}{converter.suffix}"
        try:
            if source is None:
                converter.write(prepared, unfinished)
            else:
                converter.write(prepared, source, unfinished)
            unfinished.rename(target)
        finally:
            _remove(unfinished)
    return target


@dataclass(frozen=True, slots=True)
class _Converter:
    """
    Attributes:
        distribution: what must be installed for it.
        suffix: of what it writes.
        write: writes it: from a prepared model, and from its form ``source`` where that is named.
        modules: of this package that decide what it writes.
    """

    distribution: str
    suffix: str
    write: Callable[..., None]
    source: str = ""
    modules: tuple[str, ...] = ()


def _write_ncnn(prepared: PreparedModel, target: Path) -> None:
    """A folder with model.ncnn.param and model.ncnn.bin."""
    program = next(
        Path(str(file.locate())) for file in importlib.metadata.files("pnnx") or () if file.as_posix() == "pnnx/pnnx"
    )
    target.mkdir()
    shutil.copy(prepared.model, target / "model.onnx")
    with np.load(prepared.inputs) as fed:
        kinds = {name: f"{fed[name].dtype.kind}{8 * fed[name].itemsize}" for name in fed.files}
    shapes = ",".join(f"[{','.join(map(str, shape))}]{kinds[name]}" for name, shape in prepared.shapes.items())
    _call("pnnx", [str(program), "model.onnx", "fp16=0", f"inputshape={shapes}"], target, target / "model.ncnn.param")
    for file in target.iterdir():
        if not file.name.startswith("model.ncnn."):
            file.unlink()


def _write_mnn(prepared: PreparedModel, target: Path) -> None:
    arguments = ["-f", "ONNX", "--bizCode", "benchmark", "--modelFile", str(prepared.model), "--MNNModel", str(target)]
    call_mnn("mnnconvert", arguments, target.parent, target)


def call_mnn(tool: str, arguments: Sequence[str], folder: Path, product: Path) -> None:
    """Run one of MNN's tools in a process of its own; its commands would install a package that reports their use.

    Raises:
        NotConvertibleError: if it does not write ``product``.
    """
    program = f"import MNN, _tools, sys; _tools.{tool}(sys.argv)"
    _call(tool, [sys.executable, "-P", "-c", program, *arguments], folder, product)


def _write_tflite(prepared: PreparedModel, target: Path) -> None:
    import onnx

    from benchmarks.compare.tflite import to_tflite

    target.write_bytes(to_tflite(onnx.load(str(prepared.model))))


def _call(tool: str, command: Sequence[str], folder: Path, product: Path) -> None:
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, errors="replace", check=False, timeout=_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise NotConvertibleError(f"{tool} was not done after {_SECONDS} s") from None
    if not product.exists():
        said = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        raise NotConvertibleError(f"{tool} ended with status {done.returncode}: {said[-1] if said else 'no message'}")


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _write_int8(name: str) -> Callable[..., None]:
    def write(prepared: PreparedModel, floats: Path, target: Path) -> None:
        from benchmarks.compare import int8_forms

        getattr(int8_forms, name)(prepared, floats, target)

    return write


_INT8_MODULES = ("precision.py", "int8_forms.py")

_CONVERTERS = {
    "ncnn": _Converter("pnnx", "", _write_ncnn),
    "mnn": _Converter("MNN", ".mnn", _write_mnn),
    "tflite": _Converter("ai-edge-litert", ".tflite", _write_tflite, modules=("tflite.py",)),
    "ncnn-int8": _Converter(
        *("ncnn", "-int8", _write_int8("write_ncnn_int8"), "ncnn"), modules=(*_INT8_MODULES, "ncnn_int8.py")
    ),
    "mnn-int8": _Converter("MNN", ".int8.mnn", _write_int8("write_mnn_int8"), "mnn", _INT8_MODULES),
    "tflite-int8": _Converter(
        *("litert-quantizer", ".int8.tflite", _write_int8("write_tflite_int8"), "tflite"),
        modules=(*_INT8_MODULES, "tflite.py"),
    ),
}
