"""Data movement: views, Transpose, Concat, Split, Slice, Expand, Tile, depth and space."""

from __future__ import annotations

import numpy as np
import pytest
from harness import FEATURES, check_node, check_nodes, rejection, sample
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

DTYPES = ["float32", "float64", "float16", "int8", "uint16", "int32", "int64", "bool", "complex64", "complex128"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_transpose_moves_every_element_type(dtype: str) -> None:
    check_node("Transpose", [sample((2, 5, 3, 7), dtype)], {"perm": [0, 2, 3, 1]})
    check_node("Transpose", [sample((19, 37), dtype)])


@settings(max_examples=40)
@given(st.data())
def test_transpose_of_any_rank_and_order(data: st.DataObject) -> None:
    shape = data.draw(st.lists(st.integers(0, 18), min_size=0, max_size=5).filter(lambda s: np.prod(s) < 20000))
    order = data.draw(st.permutations(range(len(shape))))
    check_node("Transpose", [sample(tuple(shape))], {"perm": order} if shape else {})


@pytest.mark.parametrize("features", FEATURES)
def test_transpose_on_every_instruction_set(features: str | None) -> None:
    check_node("Transpose", [sample((3, 40, 50))], {"perm": [0, 2, 1]}, features=features, threads=2)


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("channels", [2, 3, 4])
@pytest.mark.parametrize("size", [(1, 3), (3, 5), (4, 4), (37, 61)])
def test_pixels_are_taken_apart_and_put_together(size: tuple[int, int], channels: int, features: str | None) -> None:
    here = {"features": features, "threads": 2}
    apart = check_node("Transpose", [sample((2, *size, channels))], {"perm": [0, 3, 1, 2]}, **here)
    check_node("Transpose", [sample((2, channels, *size), "int32")], {"perm": [0, 2, 3, 1]}, **here)
    cut = {
        "x": sample((2, size[0] + 2, size[1], channels)),
        "b": np.array([1]),
        "e": np.array([-1]),
        "a": np.array([1]),
    }
    nodes = [
        helper.make_node("Slice", ["x", "b", "e", "a"], ["c"]),
        helper.make_node("Transpose", ["c"], ["y"], perm=[0, 3, 1, 2]),
    ]
    check_nodes(nodes, cut, ["y"], constants=["b", "e", "a"], **here)
    assert (f"unweave_{channels}" in apart.kernels) == (channels < 4)


@pytest.mark.parametrize("channels", [16, 32, 48, 5, 20])
def test_transpose_reads_blocked_values_where_they_lie(channels: int) -> None:
    check_node("Transpose", {"x": sample((2, channels, 3, 5))}, {"perm": [0, 2, 3, 1]}, blocked=["x"])
    check_node("Transpose", {"x": sample((1, channels, 1, 7))}, {"perm": [0, 3, 1, 2]}, blocked=["x"])


def test_reshape_flatten_squeeze_and_unsqueeze_share_memory() -> None:
    x = sample((2, 1, 6))
    ran = check_node("Reshape", {"x": x, "s": np.array([3, -1])}, constants=["s"])
    assert ran.steps == ("Copy",)  # a graph output that is a view of an input is copied, nothing else
    check_node("Reshape", {"x": x, "s": np.array([0, -1])}, constants=["s"], opset=13)
    check_node("Reshape", {"x": sample((0, 3)), "s": np.array([3, 0])}, {"allowzero": 1}, constants=["s"])
    check_node("Flatten", [sample((2, 3, 4, 5))], {"axis": -2})
    check_node("Flatten", [sample(())], {"axis": 0})
    check_node("Squeeze", {"x": x, "a": np.array([1])}, constants=["a"])
    check_node("Squeeze", [x], {"axes": [1]}, opset=11)
    check_node("Squeeze", [x])
    check_node("Unsqueeze", {"x": x, "a": np.array([0, -1])}, constants=["a"])
    check_node("Unsqueeze", [x], {"axes": [0, 2]}, opset=11)


def test_a_view_of_a_constant_and_of_a_view() -> None:
    nodes = [
        helper.make_node("Reshape", ["c", "s"], ["v"], name="a"),
        helper.make_node("Transpose", ["v"], ["t"], name="b"),
        helper.make_node("Flatten", ["t"], ["f"], name="c"),
        helper.make_node("Concat", ["f", "x"], ["y"], axis=0, name="d"),
    ]
    feeds = {"c": sample((4, 3)), "s": np.array([2, 6]), "x": sample((3, 2))}
    check_nodes(nodes, feeds, ["v", "f", "y"], constants=["c", "s"])


@pytest.mark.parametrize("channels", [16, 5])
@pytest.mark.parametrize("images", [1, 2])
def test_a_view_of_a_blocked_value(channels: int, images: int) -> None:
    check_node("Flatten", {"x": sample((images, channels, 1, 1))}, blocked=["x"])
    check_node("Flatten", {"x": sample((images, channels, 3, 2))}, blocked=["x"])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_concat(dtype: str, axis: int) -> None:
    shapes = []
    for size in (3, 1, 0, 70):
        shape = [2, 3, 5]
        shape[axis] = size
        shapes.append(tuple(shape))
    check_node("Concat", [sample(s, dtype) for s in shapes], {"axis": axis})


def test_concat_of_large_rows_in_parallel() -> None:
    check_node("Concat", [sample((1, 50, 40, 40)), sample((1, 30, 40, 40))], {"axis": 1}, threads=2)


@pytest.mark.parametrize(
    ("sizes", "axis"),
    [((16, 32), 1), ((16, 5), 1), ((5, 16), 1), ((24, 24), 1), ((8, 21), 1), ((4, 40), 1), ((3, 4), 2), ((1, 2), 0)],
)
@pytest.mark.parametrize("features", FEATURES)
def test_concat_keeps_the_blocked_layout(sizes: tuple[int, int], axis: int, features: str | None) -> None:
    shapes = []
    for size in sizes:
        shape = [2, 21, 3, 4]
        shape[axis] = size
        shapes.append(tuple(shape))
    check_node(
        "Concat",
        {"a": sample(shapes[0]), "b": sample(shapes[1])},
        {"axis": axis},
        blocked=["a", "b"],
        features=features,
    )
    check_node(
        "Concat", {"a": sample(shapes[0]), "b": sample(shapes[1])}, {"axis": axis}, blocked=["a"], features=features
    )


def test_split_by_attribute_input_and_count() -> None:
    x = sample((4, 7, 3))
    check_node("Split", [x], {"axis": 1, "split": [3, 4]}, opset=11, outputs=2)
    check_node("Split", {"x": x, "s": np.array([1, 0, 6])}, {"axis": -2}, outputs=3, constants=["s"])
    check_node("Split", [x], {"axis": 0}, opset=13, outputs=2)
    check_node("Split", [x], {"axis": 1, "num_outputs": 3}, outputs=3, opset=18)
    check_node("Split", [x], {"axis": 0}, opset=2, outputs=4)


def test_split_with_an_output_left_out() -> None:
    x = sample((4, 7))
    sizes = {"x": x, "s": np.array([1, 4, 2])}
    check_node("Split", sizes, {"axis": 1}, outputs=[True, False, True], constants=["s"], expected=[x[:, :1], x[:, 5:]])


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_split_of_a_blocked_value(axis: int) -> None:
    x = sample((2, 36, 4, 3))
    size = x.shape[axis] // 2
    check_node("Split", [x], {"axis": axis, "split": [size, size]}, outputs=2, opset=11, blocked=["x0"])
    check_node("Split", [x], {"axis": 1, "split": [16, 20]}, outputs=2, opset=11, blocked=["x0"])


@settings(max_examples=60)
@given(st.data())
def test_slice_like_python(data: st.DataObject) -> None:
    shape = data.draw(st.lists(st.integers(0, 9), min_size=1, max_size=4))
    axes = data.draw(st.lists(st.integers(0, len(shape) - 1), unique=True, min_size=1))
    bound = st.one_of(st.integers(-12, 12), st.sampled_from([2**31 - 1, -(2**31), 2**63 - 1, -(2**63) + 1]))
    starts, ends = [data.draw(st.lists(bound, min_size=len(axes), max_size=len(axes))) for _ in range(2)]
    step = st.sampled_from([1, 1, 2, 3, -1, -2, -5])
    steps = data.draw(st.lists(step, min_size=len(axes), max_size=len(axes)))
    x = sample(tuple(shape))
    index = [slice(None)] * len(shape)
    for axis, start, end, by in zip(axes, starts, ends, steps, strict=True):
        index[axis] = slice(start, end, by)
    feeds = {"x": x, "s": np.array(starts), "e": np.array(ends), "a": np.array(axes), "b": np.array(steps)}
    check_node("Slice", feeds, constants=["s", "e", "a", "b"], expected=[x[tuple(index)]])


def test_slice_of_older_opsets_and_without_axes() -> None:
    x = sample((5, 6, 7), "int16")
    check_node("Slice", [x], {"starts": [1, -3], "ends": [9, -1], "axes": [0, 2]}, opset=9)
    check_node("Slice", [x], {"starts": [1, 2], "ends": [4, 5]}, opset=1, expected=[x[1:4, 2:5]])
    feeds = {"x": x, "s": np.array([1, 2], np.int32), "e": np.array([4, 5], np.int32)}
    check_node("Slice", feeds, constants=["s", "e"], opset=13)


def test_slice_of_a_blocked_value() -> None:
    x = sample((2, 40, 6, 5))
    for axis, start, end, step in [
        (1, 16, 40, 1),
        (1, 3, 9, 1),
        (1, 0, 17, 1),
        (2, 1, 6, 2),
        (3, -1, -9, -1),
        (1, 0, 40, 2),
    ]:
        feeds = {"x": x, "s": np.array([start]), "e": np.array([end]), "a": np.array([axis]), "b": np.array([step])}
        check_node("Slice", feeds, constants=["s", "e", "a", "b"], blocked=["x"])


def test_slice_with_unknown_bounds_is_declined_with_a_reason() -> None:
    x = sample((5,))
    assert "starts" in rejection("Slice", [x, np.array([1]), np.array([3])], [x[1:3]], constants=["x2"])


def test_expand() -> None:
    for shape, to in [
        ((3, 1), (2, 3, 4)),
        ((1,), (5,)),
        ((), (2, 2)),
        ((2, 3), (1, 1)),
        ((1, 4), (0, 4)),
        ((5, 1, 3), (2, 1, 7, 1)),
    ]:
        check_node("Expand", {"x": sample(shape), "s": np.array(to)}, constants=["s"])
    check_node("Expand", {"x": sample((2, 32, 1, 1)), "s": np.array([2, 32, 4, 3])}, constants=["s"], blocked=["x"])


def test_tile() -> None:
    for shape, by in [((2, 3), (2, 2)), ((3,), (70,)), ((2, 1, 3), (1, 4, 1)), ((2, 3), (0, 1)), ((), ())]:
        check_node("Tile", {"x": sample(shape, "int64"), "r": np.array(by, np.int64)}, constants=["r"])
    check_node("Tile", {"x": sample((2, 32, 2, 2)), "r": np.array([1, 2, 3, 1])}, constants=["r"], blocked=["x"])


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_depth_to_space(mode: str) -> None:
    check_node("DepthToSpace", [sample((2, 18, 4, 5))], {"blocksize": 3, "mode": mode})
    check_node("DepthToSpace", {"x": sample((1, 32, 4, 5))}, {"blocksize": 2, "mode": mode}, blocked=["x"])


def test_space_to_depth() -> None:
    x = sample((2, 3, 6, 9))
    check_node("SpaceToDepth", [x], {"blocksize": 3})
    for mode in ("DCR", "CRD"):
        feeds = {"x": check_node("SpaceToDepth", [x], {"blocksize": 3, "mode": mode}, opset=28).outputs["y0"]}
        check_node("DepthToSpace", feeds, {"blocksize": 3, "mode": mode}, expected=[x])
