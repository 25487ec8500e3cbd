"""Models for the emulated machine, with what onnxruntime computes of them on the host."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mace_core.testing import models

Feeds = Mapping[str, npt.NDArray[Any]]


def _network(build: Callable[[], Any], folder: Path) -> Feeds:
    proto = build()
    (folder / "model.onnx").write_bytes(proto.SerializeToString())
    return _image(proto)


def _image(proto: Any, seed: int = 0) -> Feeds:
    (fed,) = proto.graph.input
    shape = tuple(size.dim_value for size in fed.type.tensor_type.shape.dim)
    return {fed.name: models.sample_image(shape, seed)}


def _text_line(folder: Path) -> Feeds:
    _link(models.find_packaged_model(*models.PP_OCR_REC), folder)
    return {"x": models.sample_image((1, 3, 48, 160))}


def _speech(folder: Path) -> Feeds:
    """One step of Silero VAD; its state is that of a beginning."""
    _link(models.find_packaged_model(*models.SILERO_VAD), folder)
    wave = models.sample_speech(1.0)[None, : 512 + 64]
    return {"input": wave, "state": np.zeros((2, 1, 128), np.float32)}


def _quantized(folder: Path) -> Feeds:
    """SqueezeNet in whole numbers, by onnxruntime's quantizer."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    proto = models.squeezenet1_1()

    class Pictures(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._left: Iterator[Feeds] = iter([_image(proto, seed) for seed in range(1, 4)])

        def get_next(self) -> Feeds | None:
            return next(self._left, None)

    plain = folder / "plain.onnx"
    plain.write_bytes(proto.SerializeToString())
    quantize_static(
        plain,
        folder / "model.onnx",
        Pictures(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    plain.unlink()
    return _image(proto)


MODELS: Mapping[str, Callable[[Path], Feeds]] = {
    "mobilenet_v2": lambda folder: _network(models.mobilenet_v2, folder),
    "efficientnet_b0": lambda folder: _network(models.efficientnet_b0, folder),
    "vit_tiny": lambda folder: _network(models.vit_tiny, folder),
    "pp_ocr_rec": _text_line,
    "silero_vad": _speech,
    "squeezenet1_1_int8": _quantized,
}
"""Convolutions of each kind, attention, a trained reader of text, a recurrent model with branches, and bytes."""


def write_models(folder: Path) -> None:
    """Write each model to a folder of its own: ``model.onnx`` and ``values.npz``.

    The arrays are named ``in:NAME`` and ``out:NAME``.
    """
    import onnxruntime

    onnxruntime.set_default_logger_severity(3)
    for name, prepare in MODELS.items():
        place = folder / name
        place.mkdir(parents=True)
        feeds = prepare(place)
        session = onnxruntime.InferenceSession(str(place / "model.onnx"), providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        found = dict(zip(names, session.run(names, dict(feeds)), strict=True))
        arrays = {f"in:{key}": array for key, array in feeds.items()} | {f"out:{key}": a for key, a in found.items()}
        np.savez(place / "values.npz", **arrays)


def _link(source: Path, folder: Path) -> None:
    (folder / "model.onnx").write_bytes(source.read_bytes())
