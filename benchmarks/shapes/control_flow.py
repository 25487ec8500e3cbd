"""Models whose shapes follow from data: loops, an If around a whole decoder, and rows that are selected."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 20
IR_VERSION = 10

Array = npt.NDArray[Any]


class GraphWriter:
    """Collects nodes and initializers; every result gets a name of its own."""

    def __init__(self, prefix: str = "", seed: int = 0) -> None:
        self.prefix = prefix
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self._random = np.random.default_rng(seed)

    def constant(self, value: Any, dtype: Any = np.int64) -> str:
        name = f"{self.prefix}c{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def weight(self, *shape: int) -> str:
        scale = 1 / np.sqrt(shape[0])
        return self.constant(self._random.standard_normal(shape) * scale, np.float32)

    def add(self, op_type: str, *inputs: str, outputs: Sequence[str] = (), count: int = 1, **attributes: Any) -> Any:
        """A node; its result's name, or names where it has several."""
        number = len(self.nodes)
        names = list(outputs) or [f"{self.prefix}{op_type}_{number}_{index}" for index in range(count)]
        self.nodes.append(helper.make_node(op_type, list(inputs), names, f"{self.prefix}n{number}", **attributes))
        return names[0] if len(names) == 1 else names

    def graph(
        self, name: str, inputs: Sequence[onnx.ValueInfoProto], outputs: Sequence[onnx.ValueInfoProto]
    ) -> onnx.GraphProto:
        return helper.make_graph(self.nodes, name, list(inputs), list(outputs), self.initializers)


def model(graph: onnx.GraphProto) -> onnx.ModelProto:
    """A checked model of one graph."""
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(made)
    return made


def _floats(name: str, *shape: int | str | None) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))


def _integers(name: str, *shape: int | str | None) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.INT64, list(shape))


def _truths(name: str, *shape: int | str | None) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.BOOL, list(shape))


def loop_slicing(width: int = 64) -> onnx.ModelProto:
    """A recurrence over the rows of ``x`` (turns, width): each turn slices its row by the counter.

    Inputs ``turns`` (), ``x``; outputs ``state`` (1, width) and ``states`` (turns, 1, width).
    """
    body = GraphWriter("body_")
    start = body.add("Unsqueeze", "i", body.constant([0]))
    end = body.add("Add", start, body.constant([1]))
    row = body.add("Slice", "x", start, end, body.constant([0]))
    mixed = body.add("Add", body.add("Mul", "state_in", body.constant([0.5], np.float32)), row)
    body.add("Tanh", mixed, outputs=["state_out"])
    body.add("Identity", "state_out", outputs=["state_scan"])
    body.add("Identity", "going_in", outputs=["going_out"])
    graph = body.graph(
        "body",
        [_integers("i"), _truths("going_in"), _floats("state_in", 1, width)],
        [_truths("going_out"), _floats("state_out", 1, width), _floats("state_scan", 1, width)],
    )
    outer = GraphWriter()
    zero = outer.constant(np.zeros((1, width)), np.float32)
    outer.add("Loop", "turns", "", zero, outputs=["state", "states"], body=graph)
    inputs = [_integers("turns"), _floats("x", "turns_", width)]
    return model(outer.graph("loop_slicing", inputs, [_floats("state", 1, width), _floats("states", None, 1, width)]))


def loop_growing(width: int = 64) -> onnx.ModelProto:
    """A carried value that grows by one row in each turn, and a new row that follows from the one before.

    Inputs ``turns`` (), ``start`` (rows, width); output ``rows`` (rows + turns, width).
    """
    body = GraphWriter("body_")
    last = body.add("Slice", "rows_in", body.constant([-1]), body.constant([1 << 40]), body.constant([0]))
    new = body.add("Tanh", body.add("Mul", last, body.constant([1.5], np.float32)))
    body.add("Concat", "rows_in", new, outputs=["rows_out"], axis=0)
    body.add("Identity", "going_in", outputs=["going_out"])
    graph = body.graph(
        "body",
        [_integers("i"), _truths("going_in"), _floats("rows_in", "rows", width)],
        [_truths("going_out"), _floats("rows_out", "more_rows", width)],
    )
    outer = GraphWriter()
    outer.add("Loop", "turns", "", "start", outputs=["rows"], body=graph)
    inputs = [_integers("turns"), _floats("start", "first_rows", width)]
    return model(outer.graph("loop_growing", inputs, [_floats("rows", "all_rows", width)]))


def loop_until(width: int | None = 64) -> onnx.ModelProto:
    """A loop that its own condition ends: ``x`` gets smaller until its largest element is below ``limit``.

    Inputs ``x`` (1, width; any width for None), ``limit`` (); outputs ``small`` (1, width) and ``largest`` (turns,).
    """
    body = GraphWriter("body_")
    body.add("Mul", "x_in", body.constant([0.99], np.float32), outputs=["x_out"])
    largest = body.add("ReduceMax", "x_out", keepdims=0)
    body.add("Identity", largest, outputs=["largest_scan"])
    body.add("Greater", largest, "limit", outputs=["going_out"])
    graph = body.graph(
        "body",
        [_integers("i"), _truths("going_in"), _floats("x_in", 1, width)],
        [_truths("going_out"), _floats("x_out", 1, width), _floats("largest_scan")],
    )
    outer = GraphWriter()
    outer.add("Loop", "", outer.constant(True, np.bool_), "x", outputs=["small", "largest"], body=graph)
    outputs = [_floats("small", 1, width), _floats("largest", None)]
    return model(outer.graph("loop_until", [_floats("x", 1, width), _floats("limit")], outputs))


def merged_decoder(layers: int = 2, width: int = 128, heads: int = 4, vocabulary: int = 256) -> onnx.ModelProto:
    """An encoder-decoder's decoder with one If around all of it, as optimum merges two exports.

    The first step (``use_cache_branch`` false) computes keys and values of the encoder's states, later ones take them,
    and the decoder's own, from the inputs.  Inputs ``ids`` (batch, length), ``encoded`` (batch, heard, width),
    ``use_cache_branch`` (1,), ``past.*`` (batch, heads, past, width / heads); outputs ``logits`` and ``present.*``.
    """
    head = width // heads
    shared = GraphWriter("shared_")
    weights: dict[str, str] = {}

    def weight(name: str, *shape: int) -> str:
        if name not in weights:
            weights[name] = shared.weight(*shape)
        return weights[name]

    def branch(prefix: str, is_cached: bool) -> onnx.GraphProto:
        w = GraphWriter(prefix)
        outputs: list[onnx.ValueInfoProto] = []

        def normalized(x: str, name: str) -> str:
            found: str = w.add("LayerNormalization", x, weight(f"{name}_scale", width), axis=-1)
            return found

        def split(x: str, name: str) -> str:
            projected = w.add("MatMul", x, weight(name, width, width))
            found: str = w.add(
                "Transpose", w.add("Reshape", projected, w.constant([0, 0, heads, head])), perm=[0, 2, 1, 3]
            )
            return found

        def present(value: str, name: str, *ins: str) -> str:
            found: str = w.add(value, *ins, outputs=[f"{prefix}{name}"], **({"axis": 2} if value == "Concat" else {}))
            outputs.append(_floats(found, "batch", heads, f"{prefix}{name}_length", head))
            return found

        def attention(query: str, key: str, value: str, name: str) -> str:
            scores = w.add("MatMul", query, w.add("Transpose", key, perm=[0, 1, 3, 2]))
            scaled = w.add("Mul", scores, w.constant(1 / np.sqrt(head), np.float32))
            mixed = w.add("MatMul", w.add("Softmax", scaled, axis=-1), value)
            joined = w.add("Reshape", w.add("Transpose", mixed, perm=[0, 2, 1, 3]), w.constant([0, 0, width]))
            found: str = w.add("MatMul", joined, weight(name, width, width))
            return found

        x = w.add("Gather", weight("embedding", vocabulary, width), "ids")
        for layer in range(layers):
            y = normalized(x, f"self_{layer}")
            key, value = (split(y, f"self_{kind}_{layer}") for kind in ("key", "value"))
            if is_cached:
                key = present("Concat", f"present.{layer}.key", f"past.{layer}.key", key)
                value = present("Concat", f"present.{layer}.value", f"past.{layer}.value", value)
            else:
                key = present("Identity", f"present.{layer}.key", key)
                value = present("Identity", f"present.{layer}.value", value)
            x = w.add("Add", x, attention(split(y, f"self_query_{layer}"), key, value, f"self_out_{layer}"))
            y = normalized(x, f"cross_{layer}")
            if is_cached:
                key = present("Identity", f"present.{layer}.cross.key", f"past.{layer}.cross.key")
                value = present("Identity", f"present.{layer}.cross.value", f"past.{layer}.cross.value")
            else:
                key = present("Identity", f"present.{layer}.cross.key", split("encoded", f"cross_key_{layer}"))
                value = present("Identity", f"present.{layer}.cross.value", split("encoded", f"cross_value_{layer}"))
            x = w.add("Add", x, attention(split(y, f"cross_query_{layer}"), key, value, f"cross_out_{layer}"))
            y = normalized(x, f"mlp_{layer}")
            inner = w.add("Gelu", w.add("MatMul", y, weight(f"mlp_in_{layer}", width, 4 * width)))
            x = w.add("Add", x, w.add("MatMul", inner, weight(f"mlp_out_{layer}", 4 * width, width)))
        logits = w.add("MatMul", x, weight("vocabulary", width, vocabulary), outputs=[f"{prefix}logits"])
        return w.graph(prefix.strip("_"), [], [_floats(logits, "batch", f"{prefix}length", vocabulary), *outputs])

    cached, first = branch("cached_", True), branch("first_", False)
    kinds = [f"{layer}{part}.{kind}" for layer in range(layers) for part in ("", ".cross") for kind in ("key", "value")]
    lengths = {name: ("heard_cached" if "cross" in name else "past") for name in kinds}
    pasts = [_floats(f"past.{name}", "batch", heads, lengths[name], head) for name in kinds]
    presents = [_floats(f"present.{name}", "batch", heads, f"present.{name}_length", head) for name in kinds]
    names = ["logits", *(f"present.{name}" for name in kinds)]
    shared.add("If", "use_cache_branch", outputs=names, then_branch=cached, else_branch=first)
    inputs = [_integers("ids", "batch", "length"), _floats("encoded", "batch", "heard", width)]
    inputs += [_truths("use_cache_branch", 1), *pasts]
    return model(shared.graph("merged_decoder", inputs, [_floats("logits", "batch", "length", vocabulary), *presents]))


def selecting(width: int = 64) -> onnx.ModelProto:
    """Rows chosen by their scores (NonZero), and nodes behind them whose shapes follow.

    Inputs ``x`` (rows, width), ``scores`` (rows,); output ``y`` (chosen, width).
    """
    w = GraphWriter()
    rows = w.add("Squeeze", w.add("NonZero", w.add("Greater", "scores", w.constant(0.5, np.float32))), w.constant([0]))
    chosen = w.add("Gather", "x", rows, axis=0)
    y = w.add("Relu", w.add("MatMul", chosen, w.weight(width, width)))
    y = w.add("Softmax", w.add("MatMul", y, w.weight(width, width)), axis=-1)
    w.add("Add", y, chosen, outputs=["y"])
    return model(
        w.graph("selecting", [_floats("x", "rows", width), _floats("scores", "rows")], [_floats("y", None, width)])
    )


def detecting(classes: int = 4) -> onnx.ModelProto:
    """Boxes that NonMaxSuppression keeps, gathered and computed with.

    Inputs ``boxes`` (1, boxes, 4), ``scores`` (1, classes, boxes); outputs ``kept`` (kept, 4), ``kept_scores`` (kept,).
    """
    w = GraphWriter()
    limits = (w.constant([200]), w.constant([0.5], np.float32), w.constant([0.3], np.float32))
    found = w.add("NonMaxSuppression", "boxes", "scores", *limits)
    box = w.add("Squeeze", w.add("Slice", found, w.constant([2]), w.constant([3]), w.constant([1])), w.constant([1]))
    kept = w.add("Gather", w.add("Squeeze", "boxes", w.constant([0])), box, axis=0)
    w.add("Mul", kept, w.constant([640, 480, 640, 480], np.float32), outputs=["kept"])
    w.add("GatherND", "scores", w.add("Gather", found, w.constant([0, 1, 2]), axis=1), outputs=["kept_scores"])
    inputs = [_floats("boxes", 1, "boxes_", 4), _floats("scores", 1, classes, "boxes_")]
    return model(w.graph("detecting", inputs, [_floats("kept", None, 4), _floats("kept_scores", None)]))


def unique_rows(width: int = 64, vocabulary: int = 512) -> onnx.ModelProto:
    """Embeddings computed once per token that occurs (Unique), and given back in the order of the text.

    Input ``ids`` (length,); output ``y`` (length, width).
    """
    w = GraphWriter()
    tokens, _, inverse, _ = w.add("Unique", "ids", count=4)
    embedded = w.add("Gather", w.weight(vocabulary, width), tokens)
    y = w.add("Tanh", w.add("MatMul", embedded, w.weight(width, width)))
    w.add("Gather", y, inverse, axis=0, outputs=["y"])
    return model(w.graph("unique_rows", [_integers("ids", "length")], [_floats("y", "length", width)]))
