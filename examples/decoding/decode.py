"""Decodes with a cache of keys and values that stays with the session, and shows that it grows in place.

The decoder is one layer with seeded weights: it computes what a language model computes, and says nothing.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import mace_core as mace

WORDS, HEADS, DEPTH = 256, 4, 16
WIDTH = HEADS * DEPTH


def make_decoder(path: str) -> None:
    """Write a decoder: ``ids`` (1, n) and ``past_key``, ``past_value`` (1, heads, past, depth) become ``logits`` and
    the two caches with n entries more."""
    random = np.random.default_rng(0)
    weights = {name: random.normal(0, WIDTH**-0.5, (WIDTH, WIDTH)).astype(np.float32) for name in ("q", "k", "v", "o")}
    weights["words"] = random.normal(0, 1, (WORDS, WIDTH)).astype(np.float32)
    weights["back"] = random.normal(0, 1, (WIDTH, WORDS)).astype(np.float32)
    constants = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    constants.append(numpy_helper.from_array(np.array([0, 0, HEADS, DEPTH]), "heads"))
    constants.append(numpy_helper.from_array(np.array([0, 0, WIDTH]), "joined"))
    constants.append(numpy_helper.from_array(np.array(DEPTH**-0.5, np.float32), "scale"))
    node = helper.make_node
    nodes = [node("Gather", ["words", "ids"], ["x"])]
    for name in ("q", "k", "v"):
        nodes += [
            node("MatMul", ["x", name], [f"{name}1"]),
            node("Reshape", [f"{name}1", "heads"], [f"{name}2"]),
            node("Transpose", [f"{name}2"], [f"{name}3"], perm=[0, 2, 1, 3]),
        ]
    nodes += [
        node("Concat", ["past_key", "k3"], ["present_key"], axis=2),
        node("Concat", ["past_value", "v3"], ["present_value"], axis=2),
        node("Transpose", ["present_key"], ["turned"], perm=[0, 1, 3, 2]),
        node("MatMul", ["q3", "turned"], ["scores"]),
        node("Mul", ["scores", "scale"], ["scaled"]),
        node("Softmax", ["scaled"], ["weights"], axis=-1),
        node("MatMul", ["weights", "present_value"], ["mixed"]),
        node("Transpose", ["mixed"], ["turned_back"], perm=[0, 2, 1, 3]),
        node("Reshape", ["turned_back", "joined"], ["all_heads"]),
        node("MatMul", ["all_heads", "o"], ["attended"]),
        node("Add", ["x", "attended"], ["y"]),
        node("MatMul", ["y", "back"], ["logits"]),
    ]

    def cache(name: str, length: str) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, HEADS, length, DEPTH])

    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, [1, "n"])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, "n", WORDS])
    inputs = [ids, cache("past_key", "past"), cache("past_value", "past")]
    outputs = [logits, cache("present_key", "total"), cache("present_value", "total")]
    graph = helper.make_graph(nodes, "decoder", inputs, outputs, constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def main() -> None:
    make_decoder("decoder.onnx")
    pairs = {"past_key": "present_key", "past_value": "present_value"}
    with mace.Session("decoder.onnx") as session, session.bind(pairs, capacity=32) as decoding:
        token = np.array([[7, 99, 3, 140]])
        text = []
        while len(text) < 8:
            logits = decoding.run({"ids": token})["logits"]
            token = logits[:, -1:].argmax(-1)
            text.append(int(token[0, 0]))
        lines = [
            f"tokens: {' '.join(map(str, text))}",
            f"entries: {decoding.lengths}",
            f"in place: {', '.join(sorted(decoding.in_place))}",
        ]
        decoding.rewind(3)
        lines.append(f"after rewinding: {decoding.read('present_key').shape}")
    print("\n".join(lines))  # noqa: T201


if __name__ == "__main__":
    main()
