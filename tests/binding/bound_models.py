"""Small decoders whose caches are kept in different ways, with seeded weights."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HEADS, GROUPS, DEPTH, LONGEST = 4, 2, 8, 24
WIDTH = HEADS * DEPTH


def _saved(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    weights: dict[str, np.ndarray],
) -> onnx.ModelProto:
    constants = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "decoder", inputs, outputs, constants)
    opsets = [helper.make_opsetid("", 24), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def _floats(name: str, *shape: int | str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def grouped_decoder() -> onnx.ModelProto:
    """A layer of GroupQueryAttention: inputs ``x`` (1, n, width), ``past_{k,v}`` (1, groups, past, depth), the lengths
    ``seqlens_k`` (1,) and ``total`` (1,) that the operator wants; outputs ``y`` and ``present_{k,v}``."""
    random = np.random.default_rng(3)
    weights = {
        name: (random.standard_normal((WIDTH, columns)) / 6).astype(np.float32)
        for name, columns in (("wq", WIDTH), ("wk", GROUPS * DEPTH), ("wv", GROUPS * DEPTH))
    }
    nodes = [helper.make_node("MatMul", ["x", f"w{kind}"], [kind]) for kind in "qkv"]
    nodes.append(
        helper.make_node(
            "GroupQueryAttention",
            ["q", "k", "v", "past_k", "past_v", "seqlens_k", "total"],
            ["y", "present_k", "present_v"],
            domain="com.microsoft",
            num_heads=HEADS,
            kv_num_heads=GROUPS,
        )
    )
    lengths = [helper.make_tensor_value_info(name, TensorProto.INT32, [1]) for name in ("seqlens_k", "total")]
    pasts = [_floats(f"past_{kind}", 1, GROUPS, "past", DEPTH) for kind in "kv"]
    presents = [_floats(f"present_{kind}", 1, GROUPS, "present", DEPTH) for kind in "kv"]
    return _saved(
        nodes, [_floats("x", 1, "n", WIDTH), *pasts, *lengths], [_floats("y", 1, "n", WIDTH), *presents], weights
    )


def scattering_decoder(op_type: str) -> onnx.ModelProto:
    """A cache of fixed size into which a row is written: inputs ``x`` (1, n, depth), ``cache`` (1, longest, depth) and
    ``at``, where to write; outputs ``y`` (1, n, depth) and ``next`` (1, longest, depth)."""
    nodes = [helper.make_node("Mul", ["x", "factor"], ["new"])]
    weights = {"factor": np.array(0.75, np.float32)}
    at = helper.make_tensor_value_info("at", TensorProto.INT64, [1])
    if op_type == "TensorScatter":
        nodes.append(helper.make_node("TensorScatter", ["cache", "new", "at"], ["next"], axis=1))
    elif op_type == "ScatterElements":
        at = helper.make_tensor_value_info("at", TensorProto.INT64, [1, "n", DEPTH])
        nodes.append(helper.make_node("ScatterElements", ["cache", "at", "new"], ["next"], axis=1))
    else:
        at = helper.make_tensor_value_info("at", TensorProto.INT64, [1, "n", 2])
        nodes.append(helper.make_node("ScatterND", ["cache", "at", "new"], ["next"]))
    nodes += [
        helper.make_node("Transpose", ["next"], ["turned"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["new", "turned"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["weights"], axis=-1),
        helper.make_node("MatMul", ["weights", "next"], ["y"]),
    ]
    cache, after = _floats("cache", 1, LONGEST, DEPTH), _floats("next", 1, LONGEST, DEPTH)
    return _saved(nodes, [_floats("x", 1, "n", DEPTH), cache, at], [_floats("y", 1, "n", DEPTH), after], weights)


def recurrent() -> onnx.ModelProto:
    """A layer with a state of its own shape: inputs ``x`` (1, b, depth) and ``h`` (1, b, depth); outputs ``y`` and
    ``h_next``."""
    random = np.random.default_rng(5)
    weights = {
        "w": random.standard_normal((1, 3 * DEPTH, DEPTH)).astype(np.float32) / 3,
        "r": random.standard_normal((1, 3 * DEPTH, DEPTH)).astype(np.float32) / 3,
    }
    nodes = [helper.make_node("GRU", ["x", "w", "r", "", "", "h"], ["y", "h_next"], hidden_size=DEPTH)]
    return _saved(
        nodes,
        [_floats("x", "n", "b", DEPTH), _floats("h", 1, "b", DEPTH)],
        [_floats("y", "n", 1, "b", DEPTH), _floats("h_next", 1, "b", DEPTH)],
        weights,
    )


def masked_decoder() -> onnx.ModelProto:
    """Heads shared by repetition, and a mask as long as the cache will be: inputs ``x`` (b, n, width), ``mask``
    (b, total) and ``past_{k,v}`` (b, groups, past, depth); outputs ``y`` and ``present_{k,v}``."""
    random = np.random.default_rng(7)
    weights: dict[str, np.ndarray] = {
        name: (random.standard_normal((WIDTH, columns)) / 6).astype(np.float32)
        for name, columns in (("wq", WIDTH), ("wk", GROUPS * DEPTH), ("wv", GROUPS * DEPTH))
    }
    weights |= {
        "of_heads": np.array([0, 0, HEADS, DEPTH]),
        "of_groups": np.array([0, 0, GROUPS, DEPTH]),
        "whole": np.array([0, 0, WIDTH]),
        "scale": np.array(DEPTH**-0.5, np.float32),
        "two": np.array([2]),
        "behind": np.array([1, 2]),
        "one": np.array(1.0, np.float32),
        "low": np.array(-1e9, np.float32),
    }
    nodes: list[onnx.NodeProto] = []

    def add(op_type: str, *ins: str, output: str = "", **attributes: object) -> str:
        name = output or f"{op_type}_{len(nodes)}"
        nodes.append(helper.make_node(op_type, list(ins), [name], **attributes))
        return name

    hidden = add("Unsqueeze", add("Mul", add("Sub", "one", "mask"), "low"), "behind")
    query = add("Transpose", add("Reshape", add("MatMul", "x", "wq"), "of_heads"), perm=[0, 2, 1, 3])
    repeated = {}
    for kind in "kv":
        new = add("Transpose", add("Reshape", add("MatMul", "x", f"w{kind}"), "of_groups"), perm=[0, 2, 1, 3])
        present = add("Concat", f"past_{kind}", new, output=f"present_{kind}", axis=-2)
        # each head of the cache serves several of the query, as exporters write it: Unsqueeze, Expand, Reshape
        shape = add("Shape", present)
        batch, groups, length = (add("Slice", shape, *_bounds(weights, i, i + 1)) for i in range(3))
        wide = add("Concat", batch, groups, "two", length, _named(weights, [DEPTH]), axis=0)
        flat = add("Concat", batch, _named(weights, [HEADS]), length, _named(weights, [DEPTH]), axis=0)
        spread = add("Expand", add("Unsqueeze", present, "two"), wide)
        repeated[kind] = add("Reshape", spread, flat)
    scores = add("Mul", add("MatMul", query, add("Transpose", repeated["k"], perm=[0, 1, 3, 2])), "scale")
    scores = add("Add", scores, hidden)
    mixed = add("MatMul", add("Softmax", scores, axis=-1), repeated["v"])
    add("Reshape", add("Transpose", mixed, perm=[0, 2, 1, 3]), "whole", output="y")
    pasts = [_floats(f"past_{kind}", "b", GROUPS, "past", DEPTH) for kind in "kv"]
    presents = [_floats(f"present_{kind}", "b", GROUPS, "total", DEPTH) for kind in "kv"]
    inputs = [_floats("x", "b", "n", WIDTH), _floats("mask", "b", "total"), *pasts]
    return _saved(nodes, inputs, [_floats("y", "b", "n", WIDTH), *presents], weights)


def _named(weights: dict[str, np.ndarray], content: list[int]) -> str:
    name = f"c_{'_'.join(map(str, content))}"
    weights[name] = np.array(content)
    return name


def _bounds(weights: dict[str, np.ndarray], start: int, end: int) -> tuple[str, str]:
    return _named(weights, [start]), _named(weights, [end])
