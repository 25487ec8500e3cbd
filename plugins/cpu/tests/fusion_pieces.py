"""Pieces of graphs that the provider fuses, each from full-sized values to one, so that any can follow any other.

Every value between pieces is float32 of `SHAPE`.  A piece reads one to three operands; each of them may be any value
that was computed before, the inside of another piece included: that is how fusions come to overlap.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

SHAPE = (1, 16, 8, 8)
CHANNELS, HEIGHT, WIDTH = SHAPE[1:]
OPSET = 17
INPUTS = ("x", "y", "z")


@dataclass
class Composite:
    """A graph under construction.

    Attributes:
        nodes: in the order of the model.
        constants: by name.
        full: values of full size, the inputs first, in the order in which they are computed.
    """

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, npt.NDArray[Any]] = field(default_factory=dict)
    full: list[str] = field(default_factory=lambda: list(INPUTS))

    def add(self, op: str, inputs: Sequence[str], *, full: bool = True, **attributes: Any) -> str:
        """The result of a node; ``full`` if it has the full size and is float32."""
        result = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [result], name=f"{op}{len(self.nodes)}", **attributes))
        if full:
            self.full.append(result)
        return result

    def constant(self, array: npt.ArrayLike, dtype: Any = np.float32) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(array, dtype)
        return name

    def weights(self, *shape: int) -> str:
        """Known numbers of a size that keeps results of products as large as their input."""
        rng = np.random.default_rng(len(self.constants))
        fan = int(np.prod(shape[1:])) if len(shape) == 4 else shape[0]
        return self.constant(rng.standard_normal(shape) / np.sqrt(max(fan, 1)))

    def sinks(self) -> list[str]:
        """What no node reads."""
        read = {name for node in self.nodes for name in node.input}
        return [name for node in self.nodes for name in node.output if name not in read]

    def model(self, outputs: Sequence[str]) -> onnx.ModelProto:
        inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, SHAPE) for name in INPUTS]
        graph = helper.make_graph(
            self.nodes,
            "composite",
            inputs,
            [onnx.ValueInfoProto(name=name) for name in outputs],
            [numpy_helper.from_array(array, name) for name, array in self.constants.items()],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)


Build = Callable[[Composite, Sequence[str]], None]


@dataclass(frozen=True)
class Piece:
    """``build`` adds the nodes for so many operands; ``rounds`` if they round to whole numbers on the way."""

    name: str
    operands: int
    build: Build
    rounds: bool = False


PIECES: dict[str, Piece] = {}


def piece(operands: int, *, rounds: bool = False) -> Callable[[Build], Build]:
    def register(build: Build) -> Build:
        PIECES[build.__name__] = Piece(build.__name__, operands, build, rounds)
        return build

    return register


# --- attention --------------------------------------------------------------------------------------------------------


@piece(2)
def softmax_of_product(c: Composite, v: Sequence[str]) -> None:
    c.add("Softmax", [c.add("MatMul", v)], axis=-1)


@piece(1)
def softmax_of_known_product(c: Composite, v: Sequence[str]) -> None:
    c.add("Softmax", [c.add("MatMul", [v[0], c.weights(WIDTH, WIDTH)])], axis=-1)


@piece(3)
def attention(c: Composite, v: Sequence[str]) -> None:
    scores = c.add("MatMul", v[:2])
    scaled = c.add("Mul", [scores, c.constant(0.35)])
    c.add("MatMul", [c.add("Softmax", [scaled], axis=-1), v[2]])


@piece(3)
def masked_attention(c: Composite, v: Sequence[str]) -> None:
    scores = c.add("Div", [c.add("MatMul", [v[0], c.weights(WIDTH, WIDTH)]), c.constant([2.8])])
    masked = c.add("Add", [scores, v[1]])
    c.add("MatMul", [c.add("Softmax", [masked], axis=-1), v[2]])


@piece(2)
def attention_of_heads(c: Composite, v: Sequence[str]) -> None:
    turned = [c.add("Transpose", [value], full=False, perm=[0, 2, 1, 3]) for value in v]
    keys = c.add("Transpose", [turned[1]], full=False, perm=[0, 1, 3, 2])
    scores = c.add("MatMul", [turned[0], keys], full=False)
    weights = c.add("Softmax", [scores], full=False, axis=-1)
    c.add("Transpose", [c.add("MatMul", [weights, turned[1]], full=False)], perm=[0, 2, 1, 3])


# --- normalization and elementwise chains -----------------------------------------------------------------------------


@piece(1)
def layer_norm(c: Composite, v: Sequence[str]) -> None:
    normal = _normalized(c, v[0])
    scaled = c.add("Mul", [normal, c.weights(WIDTH)])
    c.add("Add", [scaled, c.weights(WIDTH)])


@piece(2)
def layer_norm_scaled_by_a_value(c: Composite, v: Sequence[str]) -> None:
    c.add("Add", [c.add("Mul", [_normalized(c, v[0]), v[1]]), c.weights(WIDTH)])


def _normalized(c: Composite, x: str) -> str:
    mean = c.add("ReduceMean", [x], full=False, axes=[-1])
    centered = c.add("Sub", [x, mean])
    square = c.add("Pow", [centered, c.constant(2.0)])
    variance = c.add("ReduceMean", [square], full=False, axes=[-1])
    root = c.add("Sqrt", [c.add("Add", [variance, c.constant(0.05)], full=False)], full=False)
    return c.add("Div", [centered, root])


@piece(1)
def gate_of_itself(c: Composite, v: Sequence[str]) -> None:
    c.add("Mul", [v[0], c.add("Sigmoid", v)])


@piece(1)
def hard_swish(c: Composite, v: Sequence[str]) -> None:
    moved = c.add("Add", [v[0], c.constant(3.0)])
    clipped = c.add("Clip", [moved, c.constant(0.0), c.constant(6.0)])
    c.add("Div", [c.add("Mul", [v[0], clipped]), c.constant(6.0)])


@piece(3)
def elementwise_chain(c: Composite, v: Sequence[str]) -> None:
    c.add("Tanh", [c.add("Add", [c.add("Mul", v[:2]), v[2]])])


@piece(1)
def bare_activation(c: Composite, v: Sequence[str]) -> None:
    c.add("Relu", v)


@piece(2)
def residual(c: Composite, v: Sequence[str]) -> None:
    c.add("Relu", [c.add("Add", v)])


# --- convolutions -----------------------------------------------------------------------------------------------------


def _conv(c: Composite, x: str, taps: int, groups: int = 1, outputs: int = CHANNELS, *, full: bool = True) -> str:
    weights = c.weights(outputs, CHANNELS // groups, taps, taps)
    pads = [taps // 2] * 4
    return c.add("Conv", [x, weights, c.weights(outputs)], full=full, pads=pads, group=groups)


@piece(1)
def convolution(c: Composite, v: Sequence[str]) -> None:
    _conv(c, v[0], 1)


@piece(2)
def convolution_with_residual(c: Composite, v: Sequence[str]) -> None:
    c.add("Relu", [c.add("Add", [_conv(c, v[0], 3), v[1]])])


@piece(1)
def convolution_normalized(c: Composite, v: Sequence[str]) -> None:
    statistics = [c.weights(CHANNELS) for _ in range(3)] + [c.constant(np.full(CHANNELS, 0.7))]
    normal = c.add("BatchNormalization", [_conv(c, v[0], 1), *statistics])
    c.add("Mul", [normal, c.add("Sigmoid", [normal])])


@piece(1)
def squeeze_excite(c: Composite, v: Sequence[str]) -> None:
    filtered = c.add("Relu", [_conv(c, v[0], 3, groups=CHANNELS)])
    mean = c.add("GlobalAveragePool", [filtered], full=False)
    scale = c.add("Sigmoid", [_conv(c, mean, 1, full=False)], full=False)
    scaled = c.add("Mul", [filtered, scale])
    weights = c.weights(4, CHANNELS, 1, 1)
    c.add("Concat", [c.add("Conv", [scaled, weights], full=False) for _ in range(4)], axis=1)


@piece(2)
def scaled_input(c: Composite, v: Sequence[str]) -> None:
    scale = c.add("ReduceMean", [v[1]], full=False, axes=[2, 3])
    small = c.add("Conv", [c.add("Mul", [_conv(c, v[0], 1), scale]), c.weights(2, CHANNELS, 1, 1)], full=False)
    c.add("Concat", [small] * 8, axis=1)


@piece(1)
def convolution_then_window(c: Composite, v: Sequence[str]) -> None:
    c.add("MaxPool", [_conv(c, v[0], 3)], kernel_shape=[3, 3], pads=[1, 1, 1, 1])


@piece(1)
def convolution_then_depthwise(c: Composite, v: Sequence[str]) -> None:
    _conv(c, c.add("Relu", [_conv(c, v[0], 1)]), 3, groups=CHANNELS)


@piece(1)
def padded_convolution(c: Composite, v: Sequence[str]) -> None:
    pads = c.constant([0, 0, 1, 1, 0, 0, 1, 1], np.int64)
    padded = c.add("Pad", [v[0], pads], full=False)
    c.add("Conv", [padded, c.weights(CHANNELS, CHANNELS, 3, 3)])


@piece(1)
def transposed_convolution(c: Composite, v: Sequence[str]) -> None:
    c.add("Relu", [c.add("ConvTranspose", [v[0], c.weights(CHANNELS, CHANNELS, 1, 1)])])


# --- parts ------------------------------------------------------------------------------------------------------------


@piece(2)
def concatenated_in_place(c: Composite, v: Sequence[str]) -> None:
    half = CHANNELS // 2
    parts = [_conv(c, value, 1, outputs=half, full=False) for value in v]
    c.add("Concat", [c.add("Relu", [parts[0]], full=False), parts[1]], axis=1)


@piece(1)
def concatenated_twice(c: Composite, v: Sequence[str]) -> None:
    part = _conv(c, v[0], 1, outputs=CHANNELS // 2, full=False)
    c.add("Concat", [part, part], axis=1)


@piece(2)
def split_and_joined(c: Composite, v: Sequence[str]) -> None:
    halves = [CHANNELS // 2] * 2
    names = [f"s{len(c.nodes)}a", f"s{len(c.nodes)}b"]
    c.nodes.append(helper.make_node("Split", [v[0], c.constant(halves, np.int64)], names, name=names[0], axis=1))
    low = c.add("Slice", [v[1], *(c.constant([n], np.int64) for n in (0, halves[0], 1))], full=False)
    c.add("Concat", [c.add("Add", [names[1], low], full=False), names[0]], axis=1)


@piece(1)
def product_of_rows(c: Composite, v: Sequence[str]) -> None:
    rows = c.add("Reshape", [v[0], c.constant([CHANNELS, -1], np.int64)], full=False)
    weights = c.weights(HEIGHT * WIDTH, HEIGHT * WIDTH)
    product = c.add("Gemm", [rows, weights, c.weights(HEIGHT * WIDTH)], full=False, transB=1)
    c.add("Reshape", [c.add("Relu", [product], full=False), c.constant(SHAPE, np.int64)])


@piece(1)
def turned_twice(c: Composite, v: Sequence[str]) -> None:
    c.add("Transpose", [c.add("Transpose", v, full=False, perm=[0, 2, 3, 1])], perm=[0, 3, 1, 2])


# --- numbers of other types -------------------------------------------------------------------------------------------

SCALE = 1 / 32


@piece(1, rounds=True)
def quantized_and_back(c: Composite, v: Sequence[str]) -> None:
    scale, zero = c.constant(SCALE), c.constant(3, np.int8)
    c.add("DequantizeLinear", [c.add("QuantizeLinear", [v[0], scale, zero], full=False), scale, zero])


@piece(1, rounds=True)
def quantized_convolution(c: Composite, v: Sequence[str]) -> None:
    scale, zero = c.constant(SCALE), c.constant(128, np.uint8)
    whole = c.add("QuantizeLinear", [v[0], scale, zero], full=False)
    rng = np.random.default_rng(7)
    weights = c.constant(rng.integers(-60, 60, (CHANNELS, CHANNELS, 1, 1)), np.int8)
    sums = c.add("ConvInteger", [whole, weights, zero], full=False)
    c.add("Mul", [c.add("Cast", [sums], to=TensorProto.FLOAT), c.constant(SCALE / 128)])


@piece(1, rounds=True)
def quantized_product(c: Composite, v: Sequence[str]) -> None:
    zero = c.constant(128, np.uint8)
    whole = c.add("QuantizeLinear", [v[0], c.constant(SCALE), zero], full=False)
    rng = np.random.default_rng(8)
    weights = c.constant(rng.integers(-60, 60, (WIDTH, WIDTH)), np.int8)
    sums = c.add("MatMulInteger", [whole, weights, zero], full=False)
    c.add("Mul", [c.add("Cast", [sums], to=TensorProto.FLOAT), c.constant(SCALE / 64)])


@piece(1)
def weights_of_whole_numbers(c: Composite, v: Sequence[str]) -> None:
    rng = np.random.default_rng(9)
    whole = c.constant(rng.integers(-60, 60, (WIDTH, WIDTH)), np.int8)
    c.add("MatMul", [v[0], c.add("DequantizeLinear", [whole, c.constant(1 / 100)], full=False)])
