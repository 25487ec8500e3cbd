"""Chains of Transpose, Reshape, Slice, Split, Gather, Squeeze: copied once, when somebody reads them, and rightly."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from harness import FEATURES, check_nodes
from hypothesis import given, settings
from hypothesis import strategies as st
from mace_cpu.shared.parts.buffers import Buf, Place
from mace_cpu.shared.parts.views import Strided
from onnx import helper, numpy_helper

from mace_core.session import Session

Array = npt.NDArray[Any]


def divisors(size: int) -> list[int]:
    return [d for d in range(1, size + 1) if size % d == 0]


@st.composite
def steps(draw: st.DrawFn, shape: tuple[int, ...]) -> tuple[str, Any, tuple[int, ...]]:
    """One movement of a tensor of this shape: its name, its parameter, the shape after it."""
    kind = draw(st.sampled_from(["Transpose", "Reshape", "Slice", "Gather"]))
    axis = draw(st.integers(0, len(shape) - 1))
    size = shape[axis]
    if kind == "Transpose":
        order = tuple(draw(st.permutations(range(len(shape)))))
        return kind, order, tuple(shape[a] for a in order)
    if kind == "Gather" and len(shape) > 2:
        return kind, (axis, draw(st.integers(-size, size - 1))), shape[:axis] + shape[axis + 1 :]
    if kind == "Slice":
        start, stop = draw(st.integers(0, size - 1)), draw(st.integers(1, size))
        step = draw(st.sampled_from([1, 2, -1]))
        first, last = (max(start, stop - 1), min(start, stop - 1) - 1) if step < 0 else sorted((start, stop))
        if step > 0 and first == last:
            last += 1
        count = len(range(size)[slice(first, None if last < 0 else last, step)])
        return kind, (axis, first, last if last >= 0 else -size - 1, step), (*shape[:axis], count, *shape[axis + 1 :])
    split = draw(st.sampled_from(divisors(math.prod(shape))))
    rest = math.prod(shape) // split
    second = draw(st.sampled_from(divisors(rest)))
    new = (split, second, rest // second)
    return "Reshape", new, new


@st.composite
def chains(draw: st.DrawFn) -> tuple[tuple[int, ...], list[tuple[str, Any]]]:
    shape = first = tuple(draw(st.lists(st.integers(1, 6), min_size=2, max_size=4)))
    chain = []
    for _ in range(draw(st.integers(1, 5))):
        kind, parameter, shape = draw(steps(shape))
        chain.append((kind, parameter))
    return first, chain


def as_nodes(chain: list[tuple[str, Any]]) -> tuple[list[onnx.NodeProto], dict[str, Array], str]:
    nodes: list[onnx.NodeProto] = [helper.make_node("Relu", ["x"], ["v0"])]
    constants: dict[str, Array] = {}
    for i, (kind, parameter) in enumerate(chain):
        inputs, attributes = [f"v{i}"], {}
        if kind == "Transpose":
            attributes["perm"] = list(parameter)
        elif kind == "Reshape":
            constants[f"c{i}"] = np.array(parameter)
            inputs.append(f"c{i}")
        elif kind == "Gather":
            attributes["axis"] = parameter[0]
            constants[f"c{i}"] = np.array(parameter[1])
            inputs.append(f"c{i}")
        else:
            axis, start, stop, step = parameter
            for name, value in (("s", start), ("e", stop), ("a", axis), ("t", step)):
                constants[f"{name}{i}"] = np.array([value])
                inputs.append(f"{name}{i}")
        nodes.append(helper.make_node(kind, inputs, [f"v{i + 1}"], **attributes))
    return nodes, constants, f"v{len(chain)}"


@settings(max_examples=120)
@given(found=chains(), dtype=st.sampled_from(["float32", "int64", "float64"]), both=st.booleans())
def test_chains(found: tuple[tuple[int, ...], list[tuple[str, Any]]], dtype: str, both: bool) -> None:
    shape, chain = found
    nodes, constants, last = as_nodes(chain)
    nodes.append(helper.make_node("Neg", [last], ["y"]))
    if both:  # read where it lies, and dense by another
        nodes.append(helper.make_node("Abs", ["v1"], ["z"]))
    x = np.arange(math.prod(shape)).reshape(shape).astype(dtype)
    check_nodes(nodes, {"x": x, **constants}, ["y", "z"] if both else ["y"], constants=tuple(constants))


@settings(max_examples=80)
@given(
    found=chains(),
    columns=st.integers(1, 40),
    side=st.sampled_from(["left", "right", "both"]),
    known=st.booleans(),
    features=st.sampled_from(FEATURES),
)
def test_products_of_what_chains_end_with(
    found: tuple[tuple[int, ...], list[tuple[str, Any]]], columns: int, side: str, known: bool, features: str | None
) -> None:
    shape, chain = found
    nodes, constants, last = as_nodes(chain)
    generator = np.random.default_rng(0)
    x = generator.standard_normal(shape).astype(np.float32)
    end = x
    for kind, parameter in chain:
        if kind == "Transpose":
            end = end.transpose(parameter)
        elif kind == "Reshape":
            end = end.reshape(parameter)
        elif kind == "Gather":
            end = np.take(end, parameter[1], parameter[0])
        else:
            axis, start, stop, step = parameter
            cut = slice(start, None if stop < -end.shape[axis] else stop, step)
            end = end[(slice(None),) * axis + (cut,)]
    given_ = {"x": x, **constants}
    if side == "left":
        given_["w"] = generator.standard_normal((end.shape[-1], columns)).astype(np.float32)
        nodes.append(helper.make_node("MatMul", [last, "w"], ["y"]))
    elif side == "right":
        given_["w"] = generator.standard_normal((columns, end.shape[-2])).astype(np.float32)
        nodes.append(helper.make_node("MatMul", ["w", last], ["y"]))
    else:
        order = [*range(end.ndim - 2), end.ndim - 1, end.ndim - 2]
        nodes.append(helper.make_node("Transpose", [last], ["t"], perm=order))
        nodes.append(helper.make_node("MatMul", [last, "t"], ["y"]))
    fixed = (*constants, "w") if known and side != "both" else tuple(constants)
    check_nodes(nodes, given_, ["y"], constants=fixed, features=features)


@settings(max_examples=200)
@given(found=chains())
def test_strided_views_say_what_numpy_says(found: tuple[tuple[int, ...], list[tuple[str, Any]]]) -> None:
    shape, chain = found
    memory = np.arange(math.prod(shape))
    expected = memory.reshape(shape)
    strides = tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
    view: Strided | None = Strided(Buf(Place.ARENA, 0), 0, shape, strides)
    for kind, parameter in chain:
        assert view is not None
        if kind == "Transpose":
            view, expected = view.permuted(parameter), expected.transpose(parameter)
        elif kind == "Gather":
            axis, index = parameter
            view, expected = view.picked(axis, index % expected.shape[axis]), np.take(expected, index, axis)
        elif kind == "Slice":
            axis, start, stop, step = parameter
            cut = slice(start, None if stop < -expected.shape[axis] else stop, step)
            expected = expected[(slice(None),) * axis + (cut,)]
            view = view.part(axis, start, step, expected.shape[axis])
        else:
            expected = expected.reshape(parameter)
            view = view.reshaped(parameter)
            if view is None:  # no strides say that
                return
        lies = np.lib.stride_tricks.as_strided(memory[view.offset :], view.shape, [8 * s for s in view.strides])
        np.testing.assert_array_equal(lies, expected)


@pytest.mark.parametrize(
    ("moving", "attributes", "constants"),
    [
        ("Identity", {}, []),
        ("Reshape", {}, [("to", np.array([3, 10]))]),
        ("Unsqueeze", {}, [("axes", np.array([0]))]),
        ("Flatten", {"axis": 1}, []),
    ],
)
def test_a_result_that_only_gets_another_shape_is_computed_where_the_caller_wants_it(
    moving: str, attributes: dict[str, Any], constants: list[tuple[str, Array]]
) -> None:
    """Also where others read it, and where it is an output twice: the second one is a copy."""
    w = np.random.default_rng(4).standard_normal((4, 5)).astype(np.float32)
    names = [name for name, _ in constants]
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node(moving, ["a", *names], ["y"], **attributes),
        helper.make_node("Neg", ["a"], ["z"]),
        helper.make_node(moving, ["a", *names], ["again"], **attributes),
    ]
    x = np.random.default_rng(5).standard_normal((3, 2, 4)).astype(np.float32)
    for outputs, copies in ((["y", "z"], 0), (["y", "z", "again"], 1)):
        graph = helper.make_graph(
            nodes[: len(outputs) + 1],
            "moving",
            [helper.make_tensor_value_info("x", 1, x.shape)],
            [helper.make_tensor_value_info(name, 1, None) for name in outputs],
            [numpy_helper.from_array(array, name) for name, array in (("w", w), *constants)],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        judge = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        with Session(model, devices=["cpu"], cache=False, optimize=False) as session:
            profile = session.profile({"x": x})
            assert [span.name for span in profile.spans].count("Copy") == copies
            for name, expected in zip(outputs, judge.run(None, {"x": x}), strict=True):
                np.testing.assert_allclose(profile.outputs[name], expected, rtol=1e-5)
