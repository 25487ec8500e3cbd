"""From ONNX to the formats of engines that do not read it.  What was converted once is kept."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.compare.catalogue import PreparedModel

_SECONDS = 300


class NotConvertibleError(Exception):
    """The engine has no form of this model; the message says why."""


def convert(prepared: PreparedModel, form: str, folder: Path) -> Path:
    """The model in the format ``form``: a file, or for ncnn a folder of two.

    Raises:
        NotConvertibleError: if there is no way to it.
    """
    if form == "onnx":
        return prepared.model
    distribution, suffix, write = _CONVERTERS[form]
    recipe = hashlib.sha256(prepared.model.read_bytes())
    recipe.update(repr((sorted(prepared.shapes.items()), importlib.metadata.version(distribution))).encode())
    if form == "tflite":
        recipe.update(Path(__file__).with_name("tflite.py").read_bytes())
    target = folder / f"{prepared.name}-{recipe.hexdigest()[:12]}{suffix}"
    if not target.exists():
        unfinished = folder / f"unfinished-{os.getpid()}{suffix}"
        try:
            write(prepared, unfinished)
            unfinished.rename(target)
        finally:
            _remove(unfinished)
    return target


def _write_ncnn(prepared: PreparedModel, target: Path) -> None:
    """A folder with model.ncnn.param and model.ncnn.bin."""
    program = next(
        Path(str(file.locate())) for file in importlib.metadata.files("pnnx") or () if file.as_posix() == "pnnx/pnnx"
    )
    target.mkdir()
    shutil.copy(prepared.model, target / "model.onnx")
    shapes = ",".join("[" + ",".join(map(str, shape)) + "]" for shape in prepared.shapes.values())
    _call("pnnx", [str(program), "model.onnx", "fp16=0", f"inputshape={shapes}"], target, target / "model.ncnn.param")
    for file in target.iterdir():
        if not file.name.startswith("model.ncnn."):
            file.unlink()


def _write_mnn(prepared: PreparedModel, target: Path) -> None:
    command = [sys.executable, "-P", "-m", "MNN.tools.mnnconvert", "-f", "ONNX", "--bizCode", "benchmark"]
    command += ["--modelFile", str(prepared.model), "--MNNModel", str(target)]
    _call("mnnconvert", command, target.parent, target)


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


_CONVERTERS = {
    "ncnn": ("pnnx", "", _write_ncnn),
    "mnn": ("MNN", ".mnn", _write_mnn),
    "tflite": ("ai-edge-litert", ".tflite", _write_tflite),
}
