"""The layers that are counted, as models of ONNX and of ncnn."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.generic]


@dataclass(frozen=True, slots=True)
class Layer:
    """A convolution or a product of matrices, of floats or bytes.

    Attributes:
        name: of the layer.
        kind: "Conv", "MatMul", "QLinearConv" or "MatMulInteger".
        x, w: shapes of input and weights.
        stride, groups: of a convolution of square kernels with a border of half their size.
        peers: what it is compared with.
    """

    name: str
    kind: str
    x: tuple[int, ...]
    w: tuple[int, ...]
    stride: int = 1
    groups: int = 1
    peers: tuple[str, ...] = ("ncnn", "onnxruntime")

    @property
    def is_bytes(self) -> bool:
        return self.kind in ("QLinearConv", "MatMulInteger")

    @property
    def engines(self) -> tuple[str, ...]:
        """All that compute it; in float16 those that can."""
        halves = (
            () if self.is_bytes else ("mace-float16", *(f"{peer}-float16" for peer in self.peers if peer == "ncnn"))
        )
        return ("mace", *self.peers, *halves)

    @property
    def macs(self) -> int:
        """Multiply-adds as the definition of the operator has them, whatever the method."""
        if self.kind.startswith("MatMul"):
            return math.prod(self.x) * self.w[1]
        size = self.x[2] // self.stride
        return size * size * math.prod(self.w)

    def input(self) -> Array:
        generator = np.random.default_rng(1)
        if self.is_bytes:
            return generator.integers(0, 256, self.x).astype(np.uint8)
        return generator.standard_normal(self.x).astype(np.float32)

    def weights(self) -> Array:
        generator = np.random.default_rng(2)
        if self.is_bytes:
            return generator.integers(-127, 128, self.w).astype(np.int8)
        return generator.standard_normal(self.w).astype(np.float32)

    def onnx(self) -> bytes:
        """A model with input x and output y."""
        from onnx import TensorProto, helper, numpy_helper

        border = [self.w[-1] // 2] * 4 if len(self.w) == 4 else []
        attributes = {"pads": border, "strides": [self.stride] * 2, "group": self.groups} if border else {}
        constants = {"w": self.weights()}
        names = ["x", "w"]
        if self.kind == "QLinearConv":
            constants |= {
                "xs": np.float32(0.02), "xz": np.uint8(128), "ws": np.float32(0.01), "wz": np.int8(0),
                "ys": np.float32(4.0), "yz": np.uint8(128),
            }  # fmt: skip
            names = ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz"]
        node = helper.make_node(self.kind, names, ["y"], **attributes)
        kinds = {"QLinearConv": TensorProto.UINT8, "MatMulInteger": TensorProto.INT32}
        graph = helper.make_graph(
            [node],
            self.name,
            [helper.make_tensor_value_info("x", TensorProto.UINT8 if self.is_bytes else TensorProto.FLOAT, self.x)],
            [helper.make_tensor_value_info("y", kinds.get(self.kind, TensorProto.FLOAT), None)],
            [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        return bytes(model.SerializeToString())

    def ncnn(self) -> tuple[str, bytes]:
        """The text and the weights of a network with input x and output y; of floats alone."""
        weights = self.weights().astype(np.float32)
        tagged = np.zeros(1, np.uint32).tobytes()
        if self.kind == "MatMul":
            steps = self.x[1]
            text = f"Gemm gemm 1 1 x y 2=0 3=0 4=0 5=1 6=1 8={self.w[1]} 9={steps} 10=-1"
            return f"7767517\n2 2\nInput x 0 1 x\n{text}\n", tagged + weights.tobytes()
        out, kernel = self.w[0], self.w[2]
        common = f"0={out} 1={kernel} 3={self.stride} 4={kernel // 2} 5=0 6={weights.size}"
        if self.groups > 1:
            text = f"ConvolutionDepthWise conv 1 1 x y {common} 7={self.groups}"
        else:
            text = f"Convolution conv 1 1 x y {common}"
        return f"7767517\n2 2\nInput x 0 1 x\n{text}\n", tagged + weights.tobytes()


LAYERS = {
    layer.name: layer
    for layer in (
        Layer("conv3x3", "Conv", (1, 64, 20, 20), (64, 64, 3, 3)),
        Layer("conv3x3s2", "Conv", (1, 64, 56, 56), (64, 64, 3, 3), 2),
        Layer("conv1x1", "Conv", (1, 128, 28, 28), (256, 128, 1, 1)),
        Layer("depthwise3x3", "Conv", (1, 128, 112, 112), (128, 1, 3, 3), 1, 128),
        Layer("gemm", "MatMul", (400, 256), (256, 256)),
        Layer("int8-gemm", "MatMulInteger", (400, 512), (512, 256), peers=("onnxruntime",)),
        Layer("int8-conv3x3", "QLinearConv", (1, 64, 28, 28), (64, 64, 3, 3), peers=("onnxruntime",)),
        Layer("int8-conv1x1", "QLinearConv", (1, 128, 28, 28), (256, 128, 1, 1), peers=("onnxruntime",)),
        Layer("int8-depthwise", "QLinearConv", (1, 128, 112, 112), (128, 1, 3, 3), 1, 128, peers=("onnxruntime",)),
    )
}
