"""A small builder for convolutional networks in ONNX form with seeded weights.

Imports the onnx library; nothing else of the kit needs it before a network is built.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

FloatArray = npt.NDArray[np.float32]


class NetworkBuilder:
    """Appends layers to one model; every method takes and returns the name of a float32 value.

    Weights are drawn from one seeded generator (He initialization), so that a seed gives the same model everywhere.
    """

    def __init__(
        self, name: str, input_shape: Sequence[int | str], *, seed: int, opset: int = 17, integers: bool = False
    ) -> None:
        """``input_shape`` is that of the one input, ``x``; strings are symbolic; ``integers``: it is int64."""
        self._name = name
        self._opset = opset
        self._random = np.random.default_rng(seed)
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: list[onnx.TensorProto] = []
        kind = TensorProto.INT64 if integers else TensorProto.FLOAT
        self._inputs = [helper.make_tensor_value_info("x", kind, list(input_shape))]
        self._count = 0

    def op(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        """Append one node with one output."""
        self._count += 1
        output = f"{op_type.lower()}_{self._count}"
        self._nodes.append(helper.make_node(op_type, list(inputs), [output], name=output, **attributes))
        return output

    def constant(self, array: npt.ArrayLike) -> str:
        """An initializer; float64 becomes float32."""
        values = np.asarray(array)
        if values.dtype == np.float64:
            values = values.astype(np.float32)
        self._count += 1
        name = f"constant_{self._count}"
        self._initializers.append(numpy_helper.from_array(values, name))
        return name

    def normal(self, shape: Sequence[int], deviation: float) -> FloatArray:
        """Normally distributed weights."""
        weights = self._random.standard_normal(shape, dtype=np.float32)
        weights *= np.float32(deviation)
        return weights

    def conv(
        self,
        x: str,
        channels: int,
        filters: int,
        kernel: int,
        *,
        stride: int = 1,
        pad: int | None = None,
        group: int = 1,
        gain: float = math.sqrt(2.0),
    ) -> str:
        """A convolution with a bias (a batch normalization folded into it).

        ``pad`` defaults to half the kernel.  ``gain`` 1.4 keeps the variance through a following Relu, 1.0 without one.
        """
        fan_in = channels // group * kernel * kernel
        weights = self.normal((filters, channels // group, kernel, kernel), gain / math.sqrt(fan_in))
        bias = self.normal((filters,), 0.05)
        pads = [kernel // 2 if pad is None else pad] * 4
        return self.op(
            "Conv",
            *(x, self.constant(weights), self.constant(bias)),
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            pads=pads,
            group=group,
        )

    def linear(self, x: str, inputs: int, outputs: int, *, gain: float = 1.0) -> str:
        """``x @ weights + bias`` over the last axis, for any rank."""
        weights = self.normal((inputs, outputs), gain / math.sqrt(inputs))
        product = self.op("MatMul", x, self.constant(weights))
        return self.op("Add", product, self.constant(self.normal((outputs,), 0.05)))

    def classifier(self, x: str, channels: int, classes: int) -> str:
        """Flatten (N, C, 1, 1) and multiply: logits (N, classes)."""
        weights = self.constant(self.normal((classes, channels), 1.0 / math.sqrt(channels)))
        bias = self.constant(self.normal((classes,), 0.05))
        return self.op("Gemm", self.op("Flatten", x, axis=1), weights, bias, transB=1)

    def relu6(self, x: str) -> str:
        return self.op("Clip", x, self.constant(np.float32(0)), self.constant(np.float32(6)))

    def swish(self, x: str) -> str:
        return self.op("Mul", x, self.op("Sigmoid", x))

    def prelu(self, x: str, channels: int) -> str:
        slope = np.abs(self.normal((channels, 1, 1), 0.1)) + np.float32(0.1)
        return self.op("PRelu", x, self.constant(slope))

    def build(self, output: str, output_shape: Sequence[int | str]) -> onnx.ModelProto:
        """The checked model; its one output is called ``y``."""
        self._nodes.append(helper.make_node("Identity", [output], ["y"], name="output"))
        graph = helper.make_graph(
            self._nodes,
            self._name,
            self._inputs,
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, list(output_shape))],
            self._initializers,
        )
        opsets = [helper.make_opsetid("", self._opset)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=8, producer_name="mace")
        onnx.checker.check_model(model)
        return model
