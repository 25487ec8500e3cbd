"""The nine classic networks that ship with the onnx library, given weights that make their outputs depend on the input.

The library stores them with constant weights, so that every output is the same whatever goes in.
"""

from __future__ import annotations

import math
from collections import defaultdict
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mace_core.errors import UsageError

if TYPE_CHECKING:
    import onnx

LIGHT_MODELS = (
    "bvlc_alexnet",
    "densenet121",
    "inception_v1",
    "inception_v2",
    "resnet50",
    "shufflenet",
    "squeezenet",
    "vgg19",
    "zfnet512",
)

_PASSED_THROUGH = ("Reshape", "Unsqueeze")


def light_model_path(name: str) -> Path:
    """The file of a network of :data:`LIGHT_MODELS` inside the installed onnx library (with its constant weights).

    Raises:
        UsageError: for an unknown name, or where the library does not ship it.
    """
    if name not in LIGHT_MODELS:
        raise UsageError(f"'{name}' is not a light model; known are {', '.join(LIGHT_MODELS)}")
    spec = find_spec("onnx")
    if spec is None or spec.origin is None:
        raise UsageError("the onnx library is not installed: 'pip install onnx' brings the light models")
    path = Path(spec.origin).parent / "backend" / "test" / "data" / "light" / f"light_{name}.onnx"
    if not path.is_file():
        raise UsageError(f"the installed onnx library does not ship {path.name}: 'pip install onnx>=1.17' does")
    return path


def light_model(name: str, seed: int = 0) -> onnx.ModelProto:
    """A network of :data:`LIGHT_MODELS`, (1, 3, 224, 224) -> 1000 classes, with seeded weights (He initialization).

    Raises:
        UsageError: as :func:`light_model_path`.
    """
    import onnx
    from onnx import numpy_helper

    model = onnx.load(light_model_path(name))
    graph = model.graph
    weights = _Weights(graph, np.random.default_rng(seed))
    stored = {tensor.name: tensor for tensor in graph.initializer}
    fresh: list[onnx.TensorProto] = []
    kept: list[onnx.NodeProto] = []
    sizes: set[str] = set()
    for node in graph.node:
        if node.op_type == "ConstantOfShape":  # a weight, stored as its shape
            dims = tuple(int(d) for d in numpy_helper.to_array(stored[node.input[0]]))
            fresh.append(numpy_helper.from_array(weights.draw(node.output[0], dims), node.output[0]))
            sizes.add(node.input[0])
        else:
            kept.append(node)
    for tensor in graph.initializer:
        if tensor.name in sizes:
            continue
        if tensor.data_type == onnx.TensorProto.FLOAT and weights.users[tensor.name]:
            tensor = numpy_helper.from_array(weights.draw(tensor.name, tuple(tensor.dims)), tensor.name)
        fresh.append(tensor)
    inputs = [value for value in graph.input if value.name not in stored]
    for field, items in ((graph.node, kept), (graph.initializer, fresh), (graph.input, inputs)):
        del field[:]
        field.extend(items)
    model.ir_version = max(model.ir_version, 4)  # from 4 on initializers need not be inputs
    return model


class _Weights:
    """Draws each weight by what it is used for."""

    def __init__(self, graph: onnx.GraphProto, random: np.random.Generator) -> None:
        self.users: dict[str, list[tuple[onnx.NodeProto, int]]] = defaultdict(list)
        self._random = random
        for node in graph.node:
            for index, name in enumerate(node.input):
                self.users[name].append((node, index))

    def draw(self, name: str, dims: tuple[int, ...]) -> npt.NDArray[np.float32]:
        node, index = self.users[name][0]
        while node.op_type in _PASSED_THROUGH:
            node, index = self.users[node.output[0]][0]
        return self._values(node, index, dims)

    def _values(self, node: onnx.NodeProto, index: int, dims: tuple[int, ...]) -> npt.NDArray[np.float32]:
        kind = node.op_type
        if kind == "Conv" and index == 1:
            return self._normal(dims, math.sqrt(2.0 / math.prod(dims[1:])))
        if kind == "Gemm" and index == 1:
            transposed = any(a.name == "transB" and a.i for a in node.attribute)
            matrix = dims[-2:]
            return self._normal(dims, math.sqrt(1.0 / matrix[1 if transposed else 0]))
        if (kind == "BatchNormalization" and index in (1, 4)) or kind == "Mul":
            # the last scale of a residual branch is small, or the sums would grow from block to block
            damped = index == 1 and any(user.op_type == "Sum" for user, _ in self.users[node.output[0]])
            return (self._random.uniform(0.8, 1.2, dims) * (0.3 if damped else 1.0)).astype(np.float32)
        return self._normal(dims, 0.05)

    def _normal(self, dims: tuple[int, ...], deviation: float) -> npt.NDArray[np.float32]:
        values = self._random.standard_normal(dims, dtype=np.float32)
        values *= np.float32(deviation)
        return values
