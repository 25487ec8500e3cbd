"""What MACE calls the capability of a processor: how long the first blocks of MobileNetV2 take on it.

The network is that of MACE's ``GetCapability``: the first convolution and eight inverted residual blocks (Sandler et
al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", 2018), 224x224 pixels, with weights of no meaning.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from mace_core.graph import Attribute, AttributeKind, Graph, Node, Value
from mace_core.session import Session
from mace_core.tensor import DType, Tensor, TensorType

SIZE = 224
FIRST_CHANNELS = 32

BLOCKS = ((1, 16, 1), (6, 24, 2), (6, 24, 1), (6, 32, 2), (6, 32, 1), (6, 32, 1), (6, 64, 2), (6, 64, 1))
"""``(expansion, channels, stride)`` of each."""

RUNS = 5


def capability_ms(device: str = "cpu", threads: int = 0, runs: int = RUNS) -> float:
    """Milliseconds that the network takes on a device, the mean of some runs after the first.

    Raises:
        MaceError: if the device is not there.
    """
    options = {"cpu": {"threads": threads}} if threads > 0 and device == "cpu" else None
    with Session(capability_graph(), devices=[device], options=options, cache=False) as session:
        feeds = {"input": np.zeros((1, 3, SIZE, SIZE), np.float32)}
        session.run(feeds)
        start = time.perf_counter()
        for _ in range(runs):
            session.run(feeds)
        return (time.perf_counter() - start) / runs * 1000


def capability_graph() -> Graph:
    """The network: ``input`` float32[1, 3, 224, 224]."""
    return _Builder().build()


class _Builder:
    def __init__(self) -> None:
        self._graph = Graph("capability")
        self._graph.opset_imports = {"": 17}
        self._random = np.random.default_rng(0)
        self._count = 0

    def build(self) -> Graph:
        fed = Value("input", TensorType(DType.FLOAT32, (1, 3, SIZE, SIZE)))
        self._graph.inputs = [fed]
        current, channels = self._convolution(fed, 3, FIRST_CHANNELS, size=3, stride=2), FIRST_CHANNELS
        for expansion, wanted, stride in BLOCKS:
            inner, value = channels * expansion, current
            if expansion > 1:
                value = self._convolution(value, channels, inner)
            value = self._convolution(value, inner, inner, size=3, stride=stride, group=inner)
            value = self._convolution(value, inner, wanted, activates=False)
            if stride == 1 and wanted == channels:
                value = self._node("Add", [current, value])
            current, channels = value, wanted
        self._graph.outputs = [current]
        return self._graph

    def _convolution(
        self,
        value: Value,
        inputs: int,
        outputs: int,
        *,
        size: int = 1,
        stride: int = 1,
        group: int = 1,
        activates: bool = True,
    ) -> Value:
        fan_in = inputs // group * size * size
        weights = self._random.standard_normal((outputs, inputs // group, size, size), np.float32) / fan_in**0.5
        pad = size // 2
        attributes = {
            "kernel_shape": _integers(size, size),
            "strides": _integers(stride, stride),
            "pads": _integers(pad, pad, pad, pad),
            "group": Attribute(AttributeKind.INT, group),
        }
        read = [value, self._constant(weights.astype(np.float32)), self._constant(np.zeros(outputs, np.float32))]
        result = self._node("Conv", read, attributes)
        if not activates:
            return result
        return self._node("Clip", [result, self._constant(np.float32(0)), self._constant(np.float32(6))])

    def _constant(self, content: np.ndarray | np.float32) -> Value:
        self._count += 1
        value = Value(f"c{self._count}", None, Tensor.from_numpy(np.asarray(content)))
        self._graph.initializers[value.name] = value
        return value

    def _node(self, op_type: str, inputs: Sequence[Value], attributes: dict[str, Attribute] | None = None) -> Value:
        self._count += 1
        result = Value(f"v{self._count}", None)
        self._graph.nodes.append(Node(op_type, inputs, [result], name=f"n{self._count}", attributes=attributes))
        return result


def _integers(*numbers: int) -> Attribute:
    return Attribute(AttributeKind.INTS, numbers)
