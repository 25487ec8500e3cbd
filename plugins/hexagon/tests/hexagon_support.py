"""What the tests share: opening a device; small models, quantized with onnxruntime's quantizer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from mace_hexagon.backend import HexagonBackend
from mace_hexagon.provider import HexagonProvider
from onnx import TensorProto, helper, numpy_helper

from mace_core.provider import Backend, Device
from mace_core.testing.network import NetworkBuilder

Array = npt.NDArray[Any]


def open_backend(device: Device, **options: object) -> HexagonBackend:
    """Open a device; the caller closes it."""
    opened: Backend = HexagonProvider().open(device, options)
    assert isinstance(opened, HexagonBackend)
    return opened


def small_network() -> onnx.ModelProto:
    """Each kind of layer of a mobile network: x (1, 3, 20, 18) -> y (1, 10)."""
    net = NetworkBuilder("small", (1, 3, 20, 18), seed=3)
    x = net.relu6(net.conv("x", 3, 16, 3, stride=2))
    y = net.relu6(net.conv(x, 16, 16, 3, group=16))
    x = net.op("Add", x, net.conv(y, 16, 16, 1, gain=0.5))
    x = net.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    return net.build(net.classifier(net.op("GlobalAveragePool", x), 16, 10), (1, 10))


WIDE = (1, 64)


def perceptron() -> object:
    """Seven layers of 512 x 512 (half a megabyte each in float16), with a value that skips four of them."""
    net = NetworkBuilder("wide", WIDE, seed=5)
    x = net.classifier("x", 64, 512)
    first = net.op("Relu", x)
    x = first
    for _ in range(6):
        x = net.op("Tanh", net.classifier(x, 512, 512))
    x = net.op("Add", x, first)
    return net.build(net.classifier(x, 512, 10), (1, 10))


def model_of(nodes: Sequence[onnx.NodeProto], inputs: dict[str, Sequence[int]], outputs: dict[str, Sequence[int]],
             constants: dict[str, Array]) -> onnx.ModelProto:  # fmt: skip
    """A model of float32 inputs and outputs."""
    graph = helper.make_graph(
        list(nodes),
        "test",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 10
    return model


def quantized(model: onnx.ModelProto, folder: Path, samples: Sequence[Array], **options: Any) -> Path:
    """The path of ``model`` quantized, to QDQ form by default, calibrated with ``samples`` of its input ``x``."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._left: Iterator[Array] = iter(samples)

        def get_next(self) -> dict[str, Array] | None:
            found = next(self._left, None)
            return None if found is None else {"x": found}

    source, target = folder / "float.onnx", folder / "quantized.onnx"
    onnx.save(model, source)
    quantize_static(source, target, Reader(), **{"quant_format": QuantFormat.QDQ, **options})
    return target


def onnxruntime_outputs(model: str | bytes, feeds: dict[str, Array]) -> list[Array]:
    """What onnxruntime computes on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return [np.asarray(array) for array in session.run(None, feeds)]
