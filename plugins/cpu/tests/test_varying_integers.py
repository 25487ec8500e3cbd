"""One plan computes quantized graphs in integers for many sizes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper
from quantized_graphs import RNG, Quantizing, ask, opened, with_steps

from mace_core import Session


def freed(model: onnx.ModelProto, *dims: str | int) -> onnx.ModelProto:
    """The model with these sizes of its inputs in the place of its own."""
    found = onnx.ModelProto()
    found.CopyFrom(model)
    del found.graph.value_info[:]
    for info in found.graph.input:
        kind = info.type.tensor_type
        info.CopyFrom(helper.make_tensor_value_info(info.name, kind.elem_type, dims))
    for info in found.graph.output:
        info.type.Clear()
    return onnx.shape_inference.infer_shapes(found)


def picture() -> Quantizing:
    g = Quantizing()
    x = g.input(1, 3, 16, 16)
    w = g.weight(RNG.integers(-127, 128, (70, 3, 3, 3)).astype(np.int8), np.full(70, 0.004, np.float32), 0)
    y = g.again(g.op("Relu", g.op("Conv", x, w, pads=[1, 1, 1, 1])), 0.1)
    z = g.again(g.op("MaxPool", y, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]), 0.1)
    narrow = g.weight(RNG.integers(-127, 128, (70, 70, 1, 1)).astype(np.int8), np.full(70, 0.001, np.float32), 0)
    summed = g.again(g.op("Add", z, g.again(g.op("HardSwish", g.again(g.op("Conv", z, narrow), 0.2)), 0.2)), 0.2)
    gate = g.again(g.op("Sigmoid", g.again(g.op("GlobalAveragePool", summed), 0.1)), 1 / 255, 0)
    gated = g.again(g.op("Mul", summed, gate), 0.1)
    pooled = g.again(g.op("AveragePool", gated, kernel_shape=[3, 3], pads=[1, 1, 1, 1]), 0.1)
    g.steps(g.op("Concat", pooled, gated, axis=1), 0.1)
    return g


def text() -> Quantizing:
    g = Quantizing("int8")
    x = g.input(1, 5, 24)
    w = g.weight(RNG.integers(-127, 128, (24, 24)).astype(np.int8), np.full(24, 0.004, np.float32), 1)
    query = g.again(g.op("MatMul", x, w), 0.1)
    turned = g.again(g.op("Transpose", g.again(g.op("Add", x, query), 0.1), perm=[0, 2, 1]), 0.1)
    scores = g.again(g.op("Softmax", g.again(g.op("MatMul", query, turned), 0.3), axis=-1), 1 / 255, -128)
    g.steps(g.op("Sub", g.again(g.op("MatMul", scores, x), 0.05), x), 0.1)
    return g


@pytest.mark.parametrize(
    ("graph", "dims", "sizes"),
    [
        (picture, ("n", 3, "h", "w"), [(1, 3, 16, 16), (2, 3, 9, 30), (1, 3, 1, 1), (3, 3, 17, 2), (1, 3, 16, 16)]),
        (text, ("n", "length", 24), [(1, 5, 24), (2, 17, 24), (1, 1, 24), (4, 80, 24), (1, 5, 24)]),
    ],
    ids=["picture", "text"],
)
def test_sizes_vary(graph: object, dims: tuple[str | int, ...], sizes: list[tuple[int, ...]], tmp_path: Path) -> None:
    assert callable(graph)
    made: Quantizing = graph()
    model = freed(with_steps(made.model()), *dims)
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    (name,) = made.feeds
    dtype = made.feeds[name].dtype
    limits = np.iinfo(dtype)
    reference = freed_inputs(opened(model))
    with Session(str(path), devices=["cpu"], strict=True, options={"cpu": {"threads": 2}}) as session:
        for shape in sizes:
            feeds = {name: RNG.integers(limits.min, limits.max + 1, shape).astype(dtype)}
            found = {key: np.asarray(value) for key, value in session.run(feeds).items()}
            expected = ask(reference, {**feeds, **found})
            for key, right in expected.items():
                got = found[key.removesuffix("/again")]
                assert np.abs(got.astype(int) - right.astype(int)).max(initial=0) <= 1, f"{key} for {shape}"
        remarks = [node.note for node in session.explain().nodes]
    assert not [note for note in remarks if "in float" in note]


def freed_inputs(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without sizes of what is quantized inside."""
    for info in model.graph.input:
        for dim in info.type.tensor_type.shape.dim:
            dim.Clear()
    return model
