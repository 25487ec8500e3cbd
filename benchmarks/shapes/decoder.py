"""A decoder with a KV cache, as exporters write one: the cache comes in and goes out one entry longer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

HEADS = 4
WIDTH = 128
WORDS = 256
LONGEST = 4096


class _Builder:
    """Nodes and seeded weights, named in the order in which they are made."""

    def __init__(self, seed: int) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self._random = np.random.default_rng(seed)

    def weight(self, *shape: int, scale: float | None = None) -> str:
        scale = scale if scale is not None else 1 / np.sqrt(shape[0])
        return self.constant((self._random.standard_normal(shape) * scale).astype(np.float32))

    def constant(self, content: npt.ArrayLike) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(content), name))
        return name

    def add(self, op_type: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        name = output or f"{op_type}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op_type, list(inputs), [name], name=name, **attributes))
        return name


def decoder(path: Path, layers: int = 4, seed: int = 0) -> None:
    """Write a decoder of ``layers`` layers: inputs ``ids`` (b, 1) and ``past_{k,v}_i`` (b, heads, past, depth), outputs
    ``logits`` (b, 1, words) and ``present_{k,v}_i``."""
    b = _Builder(seed)
    depth = WIDTH // HEADS
    inputs = [helper.make_tensor_value_info("ids", TensorProto.INT64, ["b", 1])]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["b", 1, WORDS])]
    x = b.add("Gather", b.weight(WORDS, WIDTH, scale=1.0), "ids")
    length = b.add("Gather", b.add("Shape", "past_k_0"), b.constant(np.int64(2)))
    x = b.add("Add", x, b.add("Gather", b.weight(LONGEST, WIDTH, scale=0.1), length))
    for layer in range(layers):
        cache = {kind: f"past_{kind}_{layer}" for kind in "kv"}
        inputs += [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["b", HEADS, "past", depth])
            for name in cache.values()
        ]
        y = _normalized(b, x)
        query, key, value = (_heads(b, y, depth) for _ in range(3))
        present = {}
        for kind, new in (("k", key), ("v", value)):
            present[kind] = b.add("Concat", cache[kind], new, output=f"present_{kind}_{layer}", axis=2)
            outputs.append(
                helper.make_tensor_value_info(present[kind], TensorProto.FLOAT, ["b", HEADS, "total", depth])
            )
        scores = b.add("MatMul", query, b.add("Transpose", present["k"], perm=[0, 1, 3, 2]))
        weights = b.add("Softmax", b.add("Mul", scores, b.constant(np.float32(1 / np.sqrt(depth)))), axis=-1)
        mixed = b.add("Transpose", b.add("MatMul", weights, present["v"]), perm=[0, 2, 1, 3])
        mixed = b.add("Reshape", mixed, b.constant(np.array([0, 0, WIDTH], np.int64)))
        x = b.add("Add", x, b.add("MatMul", mixed, b.weight(WIDTH, WIDTH)))
        hidden = b.add("Gelu", b.add("MatMul", _normalized(b, x), b.weight(WIDTH, 4 * WIDTH)))
        x = b.add("Add", x, b.add("MatMul", hidden, b.weight(4 * WIDTH, WIDTH)))
    b.add("MatMul", x, b.weight(WIDTH, WORDS), output="logits")
    graph = helper.make_graph(b.nodes, "decoder", inputs, outputs, b.weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())


def decoder_feeds(past: int, layers: int = 4, batch: int = 1) -> dict[str, npt.NDArray[Any]]:
    """Feeds for a cache of ``past`` entries; the same for the same arguments."""
    random = np.random.default_rng(past)
    shape = (batch, HEADS, past, WIDTH // HEADS)
    feeds: dict[str, npt.NDArray[Any]] = {"ids": random.integers(0, WORDS, (batch, 1))}
    for layer in range(layers):
        for kind in "kv":
            feeds[f"past_{kind}_{layer}"] = random.standard_normal(shape).astype(np.float32)
    return feeds


def _normalized(b: _Builder, x: str) -> str:
    return b.add("LayerNormalization", x, b.weight(WIDTH, scale=1.0), b.weight(WIDTH, scale=0.1), axis=-1)


def _heads(b: _Builder, x: str, depth: int) -> str:
    projected = b.add("Add", b.add("MatMul", x, b.weight(WIDTH, WIDTH)), b.weight(WIDTH, scale=0.1))
    split = b.add("Reshape", projected, b.constant(np.array([0, 0, HEADS, depth], np.int64)))
    return b.add("Transpose", split, perm=[0, 2, 1, 3])
