"""For each rewrite, nodes that it is for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper


@dataclass(frozen=True)
class Case:
    """One node: its operator, what it reads (constants are the inputs from ``constants`` on), its attributes."""

    rule: str
    op: str
    inputs: tuple[Any, ...]
    attributes: dict[str, Any] = field(default_factory=dict)
    constants: tuple[int, ...] = ()
    outputs: int = 1
    opset: int = 21
    unread: bool = False

    def __str__(self) -> str:
        return f"{self.op}: {self.rule}"

    def model(self) -> onnx.ModelProto:
        names = ["" if array is None else f"x{i}" for i, array in enumerate(self.inputs)]
        results = [f"y{i}" for i in range(self.outputs)]
        value = helper.make_tensor_value_info
        kinds = {i: helper.np_dtype_to_tensor_dtype(a.dtype) for i, a in enumerate(self.inputs) if a is not None}
        inputs = [value(names[i], kinds[i], a.shape) for i, a in enumerate(self.inputs)
                  if a is not None and i not in self.constants]  # fmt: skip
        constants = [numpy_helper.from_array(self.inputs[i], names[i]) for i in self.constants]
        node = helper.make_node(self.op, names, results, name="node", **self.attributes)
        ends = [helper.make_empty_tensor_value_info(name) for name in results[: 1 if self.unread else None]]
        graph = helper.make_graph([node], "case", inputs, ends, constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=10)
        return onnx.shape_inference.infer_shapes(model)

    @property
    def feeds(self) -> dict[str, npt.NDArray[Any]]:
        return {f"x{i}": a for i, a in enumerate(self.inputs) if a is not None and i not in self.constants}


_G = np.random.default_rng(0)


def x(*shape: int) -> npt.NDArray[np.float32]:
    return _G.standard_normal(shape, np.float32)


def i64(*numbers: Any) -> npt.NDArray[np.int64]:
    return np.array(numbers, np.int64)


_CONV1 = "Conv of one dimension as Conv of two"
_AUTO = "explicit padding in the place of auto_pad"
_APART = "padding apart from the convolution"
_DILATED = "dilation in the weights, as zeros"
_CONV3 = "Conv of three dimensions as Conv of two over planes beside each other"
_POOL1, _POOL3 = "pooling of one dimension as pooling of two", "pooling of three dimensions as two poolings"
_TRANS = "ConvTranspose with explicit padding, without output_padding"
_GROUPS, _TRANS1 = "ConvTranspose in groups, one after the other", "ConvTranspose of one dimension as one of two"
_FEWER, _ONE = "Transpose of fewer axes", "Transpose of many axes, one axis after the other"
_SHAPE = "Reshape to the shape itself"
_MERGED = "elementwise operator on fewer axes"
_EXP = "Celu, Selu and Elu by Exp"
_REDUCED, _SPELLED = "reduction over fewer axes", "norms and logarithms of sums spelled out"
_SOFT = "Softmax over the last axis of a matrix"
_EINSUM, _MATMUL3 = "Einsum as MatMul", "MatMul of many axes as MatMul of three"
_RESIZE = "Resize as products with matrices of weights"
_MANNER, _REPEATED = "Resize in the manner that more devices have", "Resize by whole factors as repetition"
_TWO, _CLIP = "operator of many inputs, two at a time", "Clip as Max and Min"
_GRU, _LSTM = "GRU, one step after the other", "LSTM, one step after the other"
_POS = np.abs(x(2, 3, 4, 5)) + np.float32(0.1)
_SIZES = i64(1, 2, 7, 9)

CASES: tuple[Case, ...] = (
    Case(_CONV1, "Conv", (x(2, 4, 11), x(6, 2, 3), x(6)), {"group": 2, "strides": [2], "pads": [2, 1]}, (1, 2)),
    Case(_CONV1, "Conv", (x(1, 3, 9), x(4, 3, 3)), {"auto_pad": "SAME_LOWER", "strides": [2]}, (1,)),
    Case(_CONV1, "Conv", (x(1, 3, 9), x(4, 3, 3)), {}),
    Case(_AUTO, "Conv", (x(1, 3, 9, 8), x(4, 3, 3, 2)), {"auto_pad": "SAME_UPPER", "strides": [2, 3]}, (1,)),
    Case(_AUTO, "Conv", (x(1, 3, 9, 8), x(4, 3, 3, 2)), {"auto_pad": "VALID"}, (1,)),
    Case(_AUTO, "MaxPool", (x(1, 3, 9, 8),), {"auto_pad": "SAME_LOWER", "kernel_shape": [2, 4], "strides": [2, 1]}),
    Case(_APART, "Conv", (x(1, 3, 6, 7), x(4, 3, 3, 3)), {"pads": [0, 1, 2, 3], "strides": [2, 1]}, (1,)),
    Case(_DILATED, "Conv", (x(1, 4, 9, 9), x(4, 1, 3, 2)), {"dilations": [2, 3], "group": 4, "pads": [2, 1, 2, 1]},
         (1,)),
    Case(_CONV3, "Conv", (x(2, 3, 5, 6, 7), x(4, 3, 2, 3, 3), x(4)),
         {"pads": [1, 0, 1, 0, 1, 2], "strides": [2, 1, 2], "dilations": [2, 1, 1]}, (1, 2)),
    Case(_POOL1, "MaxPool", (x(1, 3, 11),), {"kernel_shape": [3], "strides": [2], "pads": [1, 1], "ceil_mode": 1}),
    Case(_POOL1, "AveragePool", (x(1, 3, 11),), {"kernel_shape": [3], "pads": [1, 0]}),
    Case(_POOL3, "MaxPool", (x(1, 2, 5, 6, 7),), {"kernel_shape": [2, 3, 2], "pads": [1, 1, 0, 0, 1, 1],
         "strides": [2, 1, 2]}),
    Case(_POOL3, "AveragePool", (x(1, 2, 5, 6, 7),), {"kernel_shape": [2, 3, 2], "strides": [1, 2, 2]}),
    Case(_TRANS, "ConvTranspose", (x(1, 3, 5, 4), x(3, 2, 3, 3), x(2)),
         {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]}, (1, 2)),
    Case(_TRANS, "ConvTranspose", (x(1, 3, 5, 4), x(3, 2, 2, 2), x(2)),
         {"strides": [3, 3], "output_padding": [2, 1]}, (1, 2)),
    Case(_TRANS, "ConvTranspose", (x(1, 3, 5, 4), x(3, 2, 3, 3)), {"strides": [2, 2], "auto_pad": "SAME_UPPER"}, (1,)),
    Case(_TRANS, "ConvTranspose", (x(1, 3, 5, 4), x(3, 2, 3, 3)), {"strides": [2, 2], "output_shape": [10, 8]}, (1,)),
    Case(_GROUPS, "ConvTranspose", (x(1, 4, 5, 4), x(4, 3, 3, 3), x(6)), {"strides": [2, 2], "group": 2}, (1, 2)),
    Case(_TRANS1, "ConvTranspose", (x(1, 3, 7), x(3, 2, 4)), {"strides": [2], "pads": [1, 2]}, (1,)),
    Case("LpPool as AveragePool of powers", "LpPool", (x(1, 2, 8, 8),),
         {"kernel_shape": [3, 2], "strides": [2, 2], "pads": [1, 0, 1, 0]}),
    Case("LpPool as AveragePool of powers", "LpPool", (x(1, 2, 8, 8),), {"kernel_shape": [3, 3], "p": 1}),
    Case("LRN as AveragePool over channels", "LRN", (x(2, 7, 4, 3),),
         {"size": 5, "alpha": 0.5, "beta": 0.6, "bias": 2.0}),
    Case("without results that nobody reads", "MaxPool", (x(1, 2, 6, 6),), {"kernel_shape": [2, 2]}, outputs=2,
         unread=True),
    Case("without results that nobody reads", "Dropout", (x(3, 4),), {}, outputs=2, unread=True),
    Case(_SHAPE, "Reshape", (x(2, 3, 4), i64(0, -1)), {}, (1,)),
    Case(_SHAPE, "Flatten", (x(2, 3, 4),), {"axis": 2}),
    Case(_SHAPE, "Squeeze", (x(2, 1, 4), i64(1)), {}, (1,)),
    Case(_SHAPE, "Unsqueeze", (x(2, 4), i64(0, -1)), {}, (1,)),
    Case(_FEWER, "Transpose", (x(2, 1, 3, 4, 5, 2),), {"perm": [0, 3, 4, 1, 2, 5]}),
    Case(_FEWER, "Transpose", (x(1, 2, 3, 4),), {"perm": [0, 2, 3, 1]}),
    Case(_FEWER, "Transpose", (x(1, 2, 1, 4),), {"perm": [1, 0, 2, 3]}),
    Case(_ONE, "Transpose", (x(2, 3, 2, 4, 3, 2),), {"perm": [5, 3, 1, 4, 2, 0]}),
    Case(_ONE, "Transpose", (x(2, 3, 2, 4, 3),), {}),
    Case("Slice backwards as Gather", "Slice", (x(5, 6), i64(-1, 4), i64(-9, 0), i64(0, 1), i64(-1, -2)), {},
         (1, 2, 3, 4)),
    Case("Slice backwards as Gather", "Slice", (x(5, 6), i64(9, 1), i64(1, 5), i64(1, 0), i64(-3, 1)), {},
         (1, 2, 3, 4)),
    Case("Split as slices", "Split", (x(2, 7), i64(3, 4)), {"axis": -1}, (1,), outputs=2),
    Case("Gather with indices from zero on", "Gather", (x(5, 4), i64([-1, 2], [0, -5])), {"axis": 0}, (1,)),
    Case("Gather with a list of indices", "Gather", (x(5, 4), i64([3, 2], [0, 1])), {"axis": 1}),
    Case("Gather with a list of indices", "Gather", (x(5, 4), np.array(2)), {"axis": 0}, (1,)),
    Case("Gather with indices of 32 bits", "Gather", (x(5, 4), i64(1, -1)), {"axis": 0}),
    Case("Gather with indices of 32 bits", "GatherElements", (x(5, 4), i64([1, -1, 0, 0])), {"axis": 1}),
    Case("GatherElements along one axis as Gather of all elements", "GatherElements",
         (x(3, 4), i64([0, -1], [2, 1], [3, 3])), {"axis": 1}, (1,)),
    Case("GatherND as Gather of blocks", "GatherND", (x(3, 4, 2), i64([[0, -1]], [[2, 1]])), {}, (1,)),
    Case("DepthToSpace and SpaceToDepth as Transpose", "DepthToSpace", (x(2, 8, 3, 4),), {"blocksize": 2}),
    Case("DepthToSpace and SpaceToDepth as Transpose", "DepthToSpace", (x(2, 8, 3, 4),),
         {"blocksize": 2, "mode": "CRD"}),
    Case("DepthToSpace and SpaceToDepth as Transpose", "SpaceToDepth", (x(2, 2, 4, 6),), {"blocksize": 2}),
    Case("Expand as a product with ones", "Expand", (x(3, 1), i64(2, 1, 4)), {}, (1,)),
    Case("Expand as Tile", "Expand", (x(3, 1), i64(2, 1, 4)), {}, (1,)),
    Case("OneHot as a comparison", "OneHot", (i64([0, -1], [3, 9]), np.int64(4), x(2)), {"axis": 1}, (1, 2)),
    Case("Trilu as a choice", "Trilu", (x(2, 3, 4), np.int64(1)), {"upper": 0}, (1,)),
    Case("Trilu as a choice", "Trilu", (x(4, 4),), {}),
    Case("Concat of many as concats of few", "Concat", tuple(x(2, n) for n in (1, 2, 3, 1, 2, 1)), {"axis": 1}),
    Case("ScatterND with constant indices as a choice of rows", "ScatterND", (x(4, 3), i64([1], [-1]), x(2, 3)), {},
         (1,)),
    Case(_MERGED, "Add", (x(2, 3, 4, 5, 2, 2), x(3, 1, 1, 1, 1)), {}),
    Case(_MERGED, "Relu", (x(2, 1, 3, 2, 2, 2),), {}),
    Case(_MERGED, "Where", (x(1, 2, 3, 2, 2) > 0, x(4, 2, 3, 2, 2), x(1)), {}),
    Case("Clip with both bounds", "Clip", (x(4, 5), np.float32(-0.5)), {}, (1,)),
    Case("Clip with both bounds", "Clip", (x(4, 5), None, np.float32(0.5)), {}, (2,)),
    Case(_CLIP, "Clip", (x(4, 5), np.float32(-0.5), np.float32(0.7)), {}, (1, 2)),
    Case(_CLIP, "Clip", (x(4, 5),), {}),
    Case(_TWO, "Sum", (x(3, 4), x(4), x(3, 1)), {}),
    Case(_TWO, "Max", (x(3, 4), x(4), x(3, 1)), {}),
    Case(_TWO, "Mean", (x(3, 4), x(3, 4)), {}),
    Case("Pow by a small whole number as products", "Pow", (x(3, 4), np.float32(3)), {}, (1,)),
    Case("Pow by a small whole number as products", "Pow", (_POS, np.float32(0.5)), {}, (1,)),
    Case("Pow by a small whole number as products", "Pow", (np.int32([2, -3]), np.int32(2)), {}, (1,)),
    Case("Tan as sine over cosine", "Tan", (x(3, 4),), {}),
    Case("IsNaN as a comparison with itself", "IsNaN", (np.float32([1, np.nan, np.inf]),), {}),
    Case("Gelu spelled out", "Gelu", (x(3, 4),), {}),
    Case("Gelu spelled out", "Gelu", (x(3, 4),), {"approximate": "tanh"}),
    Case("Mish spelled out", "Mish", (x(3, 4),), {}),
    Case("Softplus spelled out", "Softplus", (x(3, 4) * 40,), {}),
    Case("HardSwish as a product with HardSigmoid", "HardSwish", (x(3, 4) * 3,), {}),
    Case("HardSigmoid spelled out", "HardSigmoid", (x(3, 4) * 3,), {"alpha": 0.3}),
    Case("LeakyRelu as Max or Min of products", "LeakyRelu", (x(3, 4),), {"alpha": 0.2}),
    Case("LeakyRelu as Max or Min of products", "LeakyRelu", (x(3, 4),), {"alpha": 1.5}),
    Case(_EXP, "Celu", (x(3, 4),), {"alpha": 0.7}),
    Case(_EXP, "Selu", (x(3, 4),), {}),
    Case(_EXP, "Elu", (x(3, 4),), {"alpha": 2.0}),
    Case("Greater and Less or equal by Not", "LessOrEqual", (i64(1, 2, 3), i64(2, 2, 2)), {}),
    Case(_REDUCED, "ReduceMean", (x(2, 3, 4, 5, 2), i64(1, 2)), {"keepdims": 0}, (1,)),
    Case(_REDUCED, "ReduceMax", (x(2, 3, 4, 5), i64(-1, 0, 1)), {}, (1,)),
    Case(_SPELLED, "ReduceL2", (x(3, 4, 5), i64(1)), {"keepdims": 0}, (1,)),
    Case(_SPELLED, "ReduceL1", (x(3, 4),), {}),
    Case(_SPELLED, "ReduceLogSum", (_POS, i64(2, 3)), {}, (1,)),
    Case(_SPELLED, "ReduceSumSquare", (x(3, 4), i64(0)), {}, (1,)),
    Case("ReduceLogSumExp with the largest taken out", "ReduceLogSumExp", (x(3, 4) * 50, i64(1)), {}, (1,)),
    Case("ReduceMean over pictures as GlobalAveragePool", "ReduceMean", (x(2, 3, 4, 5), i64(2, 3)), {"keepdims": 0},
         (1,)),
    Case("global pooling as a reduction", "GlobalAveragePool", (x(2, 3, 4, 5),), {}),
    Case("global pooling as a reduction", "GlobalMaxPool", (x(2, 3, 4),), {}),
    Case("global pooling as a reduction", "GlobalLpPool", (x(2, 3, 4, 5),), {"p": 1}),
    Case("LpNormalization as a division by the norm", "LpNormalization", (x(3, 4),), {"p": 2}),
    Case("LpNormalization as a division by the norm", "LpNormalization", (x(3, 4),), {"p": 1, "axis": 0}),
    Case("InstanceNormalization spelled out", "InstanceNormalization", (x(2, 3, 4, 5), x(3), x(3)), {}, (1, 2)),
    Case("GroupNormalization as InstanceNormalization", "GroupNormalization", (x(2, 4, 3, 5), x(4), x(4)),
         {"num_groups": 2}, (1, 2)),
    Case("LayerNormalization spelled out", "LayerNormalization", (x(2, 3, 4), x(3, 4), x(3, 4)), {"axis": 1}, (1, 2)),
    Case("BatchNormalization as a product and a sum", "BatchNormalization",
         (x(2, 3, 4), x(3), x(3), x(3), np.abs(x(3))), {"epsilon": 1e-3}),
    Case(_SOFT, "Softmax", (x(2, 3, 4, 5),), {"axis": 1}),
    Case(_SOFT, "LogSoftmax", (x(2, 3, 4),), {"axis": 1}, opset=11),
    Case(_SOFT, "Hardmax", (x(2, 3, 4),), {"axis": -1}),
    Case("LogSoftmax spelled out", "LogSoftmax", (x(3, 4) * 50,), {"axis": 0}),
    Case("Softmax spelled out", "Softmax", (x(3, 4) * 50,), {"axis": 0}),
    Case("CumSum as a product with a triangle of ones", "CumSum", (x(3, 4, 2), np.int64(1)), {"exclusive": 1}, (1,)),
    Case("CumSum as a product with a triangle of ones", "CumSum", (x(3, 4), np.int64(-1)), {"reverse": 1}, (1,)),
    Case("ArgMax and ArgMin as TopK of one", "ArgMin", (x(3, 4, 5),), {"axis": -2, "keepdims": 0}),
    Case(_MATMUL3, "MatMul", (x(2, 3, 4, 5), x(2, 3, 5, 2)), {}),
    Case(_MATMUL3, "MatMul", (x(2, 3, 4, 5), x(5, 2)), {}, (1,)),
    Case(_MATMUL3, "MatMul", (x(4, 5), x(2, 3, 5, 2)), {}),
    Case("MatMul with vectors as MatMul with matrices", "MatMul", (x(5), x(2, 5, 2)), {}),
    Case("MatMul with vectors as MatMul with matrices", "MatMul", (x(4, 5), x(5)), {}),
    Case("Gemm as MatMul and Add", "Gemm", (x(5, 4), x(3, 5), x(3)), {"transA": 1, "transB": 1, "alpha": 0.5,
         "beta": 2.0}),
    Case(_EINSUM, "Einsum", (x(2, 3, 4), x(2, 4, 5)), {"equation": "bij,bjk->bik"}),
    Case(_EINSUM, "Einsum", (x(2, 3, 4, 5), x(2, 6, 4, 5)), {"equation": "bqhd, bkhd -> bhqk"}),
    Case(_EINSUM, "Einsum", (x(3, 4), x(4)), {"equation": "ij,j"}),
    Case(_EINSUM, "Einsum", (x(3, 4, 2), x(3, 5), x(5, 2)), {"equation": "abc,ad,dc->cb"}),
    Case(_RESIZE, "Resize", (x(1, 2, 4, 5), None, None, _SIZES),
         {"mode": "linear", "coordinate_transformation_mode": "align_corners"}, (3,)),
    Case(_RESIZE, "Resize", (x(1, 2, 9, 8), None, np.float32([1, 1, 0.5, 0.6])), {"mode": "linear", "antialias": 1},
         (2,)),
    Case(_RESIZE, "Resize", (x(1, 2, 4, 5), None, None, _SIZES), {"mode": "cubic"}, (3,)),
    Case(_RESIZE, "Resize", (x(1, 2, 4, 5), None, None, i64(7, 9)), {"mode": "linear", "axes": [2, 3]}, (3,)),
    Case(_MANNER, "Resize", (x(1, 2, 4, 5), None, np.float32([1, 1, 2, 3])), {"mode": "nearest"}, (2,)),
    Case(_REPEATED, "Resize", (x(1, 2, 4, 5), None, np.float32([1, 1, 2, 3])), {"mode": "nearest"}, (2,)),
    Case(_GRU, "GRU", (x(5, 2, 3), x(1, 12, 3), x(1, 12, 4), x(1, 24)), {"hidden_size": 4}, (1, 2, 3), outputs=2),
    Case(_GRU, "GRU", (x(3, 2, 3), x(2, 12, 3), x(2, 12, 4), x(2, 24), None, x(2, 2, 4)),
         {"hidden_size": 4, "direction": "bidirectional", "linear_before_reset": 1}, (1, 2, 3), outputs=2),
    Case(_GRU, "GRU", (x(1, 1, 3), x(1, 12, 3), x(1, 12, 4)), {"hidden_size": 4, "direction": "reverse"}, (1, 2)),
    Case(_LSTM, "LSTM", (x(4, 2, 3), x(1, 16, 3), x(1, 16, 4), x(1, 32)), {"hidden_size": 4}, (1, 2, 3), outputs=3),
    Case(_LSTM, "LSTM", (x(3, 1, 3), x(2, 16, 3), x(2, 16, 4), x(2, 32), np.int32([3]), x(2, 1, 4), x(2, 1, 4)),
         {"hidden_size": 4, "direction": "bidirectional"}, (1, 2, 3, 4), outputs=3),
    Case(_GRU, "GRU", (x(2, 1, 3), x(2, 12, 3), x(2, 12, 4), x(2, 24), None, x(2, 1, 4)),
         {"hidden_size": 4, "direction": "bidirectional", "linear_before_reset": 1}, (1, 2, 3), outputs=2, opset=9),
    Case(_APART, "Conv", (x(1, 3, 6, 7), x(4, 3, 3, 3)), {"pads": [0, 1, 2, 3], "strides": [2, 1]}, (1,), opset=9),
    Case("InstanceNormalization spelled out", "InstanceNormalization", (x(2, 3, 4), x(3), x(3)), {}, (1, 2), opset=9),
    Case(_REDUCED, "ReduceMean", (x(2, 3, 4, 5, 2),), {"keepdims": 0, "axes": [1, 2]}, opset=9),
    Case("CumSum as a product with a triangle of ones", "CumSum", (x(3, 4), np.int64(0)), {}, (1,), opset=11),
    Case(_TRANS, "ConvTranspose", (x(1, 3, 5, 4), x(3, 2, 2, 2), x(2)),
         {"strides": [3, 3], "output_padding": [2, 1]}, (1, 2), opset=9),
)  # fmt: skip
