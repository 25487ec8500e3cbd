"""A network in ncnn's own 8-bit form, as ncnn2table and ncnn2int8 write it, tools that its packages do not contain.

Weights of convolutions have a scale for each output channel, activations one: 127 over the largest magnitude that
calibration saw.  Where only another quantized layer reads the result of one, it is quantized at once.  Products of
matrices have one scale for their weights, and find those of their activations while they run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.compare.catalogue import Feeds
from benchmarks.compare.convert import NotConvertibleError

Floats = npt.NDArray[np.float32]

_CALIBRATED = ("Convolution", "ConvolutionDepthWise", "InnerProduct")
_GROUPS, _TERM, _GEMM_TERM = 7, 8, 18
"""Numbers of parameters: of groups, and how a layer is quantized."""

_WITH_RESULT = 100
"""Added where the result is quantized as well."""

_INT8_TAG = np.uint32(0x000D4B38)
_LIMIT = 127.0


@dataclass(slots=True)
class Layer:
    """A line of the ``.param`` file, and its part of the ``.bin`` file."""

    kind: str
    name: str
    inputs: list[str]
    outputs: list[str]
    params: dict[int, str]
    content: bytes = b""
    weight: Floats | None = None
    bias: bytes = b""

    @property
    def is_calibrated(self) -> bool:
        """Whether it has a quantized form that knows the range of what it reads."""
        return self.weight is not None and self.kind in _CALIBRATED

    def number(self, key: int) -> int:
        """An integer parameter, 0 where it is left out."""
        return int(self.params.get(key, "0"))

    def line(self) -> str:
        """As the file has it."""
        words = [self.kind, self.name, str(len(self.inputs)), str(len(self.outputs)), *self.inputs, *self.outputs]
        return " ".join([*words, *(f"{key}={value}" for key, value in self.params.items())])


def quantize_ncnn(folder: Path, samples: Iterable[Feeds], target: Path) -> None:
    """Write ``model.ncnn.param`` and ``.bin`` to ``target``, from the float ones in ``folder``.

    Raises:
        NotConvertibleError: for layers with weights that are not known here.
    """
    head, layers = _read(folder)
    wanted = [layer for layer in layers if layer.is_calibrated]
    if not any(layer.weight is not None for layer in layers):
        raise NotConvertibleError("ncnn's form of it has no layer to quantize")
    scales = _calibrate(folder, sorted({layer.inputs[0] for layer in wanted}), samples)
    readers: dict[str, list[Layer]] = {}
    for layer in layers:
        for name in layer.inputs:
            readers.setdefault(name, []).append(layer)
    for layer in wanted:
        following = readers.get(layer.outputs[0], [])
        has_result = len(following) == 1 and following[0].is_calibrated and layer.kind != "InnerProduct"
        _quantize(layer, scales[layer.inputs[0]], scales[layer.outputs[0]] if has_result else None)
    for layer in layers:
        if layer.weight is not None and layer.kind == "Gemm":
            layer.content = _packed(layer, layer.weight.reshape(1, -1))
            layer.params[_GEMM_TERM] = "2"
    (target / "model.ncnn.param").write_text("\n".join([*head, *(layer.line() for layer in layers)]) + "\n")
    (target / "model.ncnn.bin").write_bytes(b"".join(layer.content for layer in layers))


def _quantize(layer: Layer, scale: float, result: float | None) -> None:
    assert layer.weight is not None
    groups = layer.number(_GROUPS) if layer.kind == "ConvolutionDepthWise" else layer.number(0)
    packed = _packed(layer, layer.weight.reshape(groups, -1))
    given = [scale] if result is None else [scale, result]
    layer.content = packed + np.array(given, np.float32).tobytes()
    layer.params[_TERM] = str((1 if layer.kind == "ConvolutionDepthWise" else 2) + _WITH_RESULT * (result is not None))


def _packed(layer: Layer, rows: Floats) -> bytes:
    """Weights with a scale for each row, in 8 bits; the bias; the scales."""
    limits = np.abs(rows).max(axis=1)
    scales = np.where(limits > 0, _LIMIT / np.maximum(limits, 1e-30), 1).astype(np.float32)
    steps = np.clip(np.rint(rows * scales[:, None]), -_LIMIT, _LIMIT).astype(np.int8).tobytes()
    return b"".join([_INT8_TAG.tobytes(), steps, bytes(-len(steps) % 4), layer.bias, scales.tobytes()])


def _calibrate(folder: Path, names: Sequence[str], samples: Iterable[Feeds]) -> dict[str, float]:
    """The scale of each value that a quantized layer reads."""
    import ncnn

    net = ncnn.Net()
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    net.opt.use_bf16_storage = False
    net.opt.num_threads = 1  # its threads wait in loops, which takes long where others work
    net.opt.lightmode = False
    if net.load_param(str(folder / "model.ncnn.param")) or net.load_model(str(folder / "model.ncnn.bin")):
        raise NotConvertibleError("ncnn cannot load what its converter wrote")
    limits = dict.fromkeys(names, 0.0)
    for sample in samples:
        arrays = [np.ascontiguousarray(array[0]) for array in sample.values()]
        with net.create_extractor() as extractor:
            for name, array in zip(net.input_names(), arrays, strict=True):
                extractor.input(name, ncnn.Mat(array))
            for name in names:
                limits[name] = max(limits[name], float(np.abs(np.array(extractor.extract(name)[1])).max()))
    return {name: _LIMIT / limit if limit else 1.0 for name, limit in limits.items()}


def _read(folder: Path) -> tuple[list[str], list[Layer]]:
    """The first two lines, and the layers with their weights."""
    magic, counts, *lines = (folder / "model.ncnn.param").read_text().splitlines()
    layers = [_layer(line) for line in lines if line.strip()]
    content, place = (folder / "model.ncnn.bin").read_bytes(), 0
    for layer in layers:
        begin = place
        sizes = _sizes(layer)
        if sizes is not None:
            count, bias = sizes
            if content[place : place + 4] != bytes(4):
                raise NotConvertibleError(f"weights of {layer.name} are not in float32")
            layer.weight = np.frombuffer(content, np.float32, count, place + 4)
            place += 4 + 4 * count
            layer.bias = content[place : place + bias]
            place += bias
        elif layer.kind in _FLOATS:
            place += _FLOATS[layer.kind](layer)
        layer.content = content[begin:place]
    if place != len(content):
        kinds = ", ".join(sorted({layer.kind for layer in layers} - {*_CALIBRATED, *_FLOATS, "Gemm"}))
        raise NotConvertibleError(f"weights of one of ncnn's layers {kinds} are not known here")
    return [magic, counts], layers


def _sizes(layer: Layer) -> tuple[int, int] | None:
    """How many weights it has, and bytes of bias, if it has a quantized form."""
    if layer.kind == "InnerProduct":
        return layer.number(2), 4 * layer.number(0) * layer.number(1)
    if layer.kind in _CALIBRATED:
        return layer.number(6), 4 * layer.number(0) * layer.number(5)
    if layer.kind == "Gemm" and [layer.number(key) for key in (2, 3, 4, 5)] == [0, 1, 0, 1]:
        width = layer.number(8)
        bias = {-1: 0, 0: 1, 4: width}.get(layer.number(10), layer.number(7)) if layer.number(6) else 0
        return width * layer.number(9), 4 + 4 * bias if bias else 0
    return None


def _attention(layer: Layer) -> int:
    width, count = layer.number(0), layer.number(2)
    queries = count // width
    keys, values = (layer.number(key) or width for key in (3, 4))
    return 16 + 4 * (2 * count + width * (keys + values) + 3 * width + queries)


def _layer(line: str) -> Layer:
    kind, name, inputs, outputs, *rest = line.split()
    last = int(inputs) + int(outputs)
    params = dict(word.split("=", 1) for word in rest[last:])
    numbered = {int(key): value for key, value in params.items()}
    return Layer(kind, name, rest[: int(inputs)], rest[int(inputs) : last], numbered)


_FLOATS: dict[str, Callable[[Layer], int]] = {
    "MemoryData": lambda layer: 4 * int(np.prod([layer.number(key) or 1 for key in (0, 1, 11, 2)])),
    "BatchNorm": lambda layer: 16 * layer.number(0),
    "Scale": lambda layer: 4 * layer.number(0) * (1 + layer.number(1)),
    "PReLU": lambda layer: 4 * layer.number(0),
    "MultiHeadAttention": _attention,
    "Embed": lambda layer: 4 + 4 * (layer.number(3) + layer.number(0) * layer.number(2)),
    "LayerNorm": lambda layer: 8 * layer.number(0) * int(layer.params.get(2, "1")),
}
"""Bytes of the weights of layers that stay in float."""
