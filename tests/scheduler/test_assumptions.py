"""Sizes assumed for free dimensions: usual ones, the same for all commands, and a shape to copy where none fits."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from scheduler_stand_ins import registry_of

from mace_core.errors import InputError, StrictPlacementError, UsageError
from mace_core.graph import Value
from mace_core.scheduler.planning.assumptions import assumed_shapes, shape_argument
from mace_core.session import Session
from mace_core.tensor import DType, TensorType


def first(given: dict[str, tuple[int, ...]] | None = None, **shapes: Any) -> dict[str, tuple[int, ...]]:
    inputs = [Value(name, TensorType(DType.FLOAT32, shape)) for name, shape in shapes.items()]
    return dict(next(iter(assumed_shapes(inputs, given or {}))).shapes)


@pytest.mark.parametrize(
    ("shape", "assumed"),
    [
        (("n", 3, "h", "w"), (1, 3, 224, 224)),
        ((None, 3, None, None), (1, 3, 224, 224)),
        (("batch", "height", "width", 3), (1, 224, 224, 3)),
        ((None, None, None, None), (1, 3, 224, 224)),
        ((None, 1, 28, 28), (1, 1, 28, 28)),
        ((3, "h", "w"), (3, 224, 224)),
        (("batch", "sequence"), (1, 128)),
        (("seq_len", "batch", 64), (128, 1, 64)),
        ((1, "T", 80), (1, 128, 80)),
        ((2, None, 128), (2, 1, 128)),
        (("n", 8, "past_sequence_length", 64), (1, 8, 16, 64)),
        (("num_atoms",), (128,)),
        ((), ()),
    ],
)
def test_a_dimension_gets_a_size_of_its_kind(shape: Any, assumed: tuple[int, ...]) -> None:
    assert first(x=shape) == {"x": assumed}


def test_a_symbol_has_one_size_and_sums_are_computed() -> None:
    found = first(
        ids=("batch", "seq"),
        past=("batch", 4, "past", 8),
        mask=("batch", "past + seq"),
        total=("total_sequence_length",),
    )
    assert found == {"ids": (1, 128), "past": (1, 4, 16, 8), "mask": (1, 144), "total": (144,)}
    assert first({"ids": (3, 5)}, ids=("b", "s"), mask=("b", "s"), other=("s + 1",)) == {
        "ids": (3, 5), "mask": (3, 5), "other": (6,)
    }  # fmt: skip


def test_an_unknown_number_of_dimensions_is_refused_with_an_argument() -> None:
    with pytest.raises(UsageError, match="--shape x=1x3x224x224"):
        first(x=None)


def test_arguments_are_ready_for_a_shell() -> None:
    assert shape_argument("x", (1, 3)) == "--shape x=1x3"
    assert shape_argument("scalar", ()) == "--shape scalar=scalar"
    assert shape_argument("a b'c", (2,)) == "--shape 'a b'\\''c=2'"


def reshaping(elements: int) -> onnx.ModelProto:
    """Takes pictures whose pixels make up rows of ``elements``, and no others."""
    info = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, "h", "w"]),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, None),
    ]
    shape = numpy_helper.from_array(np.array([1, elements], np.int64), "s")
    graph = helper.make_graph([helper.make_node("Reshape", ["x", "s"], ["y"])], "g", info[:1], info[1:], [shape])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("side", [224, 320, 640, 32])
def test_the_first_size_that_the_model_takes_is_assumed(side: int) -> None:
    with Session(reshaping(3 * side * side), registry=registry_of()) as session:
        assumed = session.assume_shapes()
        assert assumed.shapes == {"x": (1, 3, side, side)}
        assert assumed.note == f"n=1, h={side}, w={side}"
        assert assumed.arguments == f"--shape x=1x3x{side}x{side}"
    with Session(reshaping(3 * side * side), registry=registry_of()) as session:
        assert f"(assumed: n=1, h={side}, w={side})" in session.explain().signature


def test_where_none_fits_the_error_has_a_shape_to_copy() -> None:
    with Session(reshaping(7), registry=registry_of()) as session:
        with pytest.raises(UsageError, match=r"takes none of the sizes tried.*--shape x=1x3x224x224"):
            session.assume_shapes()
        with pytest.raises(UsageError, match="--shape x=1x3x224x224"):
            session.explain()


def test_what_is_given_is_kept_and_checked() -> None:
    with Session(reshaping(3 * 8 * 8), registry=registry_of()) as session:
        assert session.assume_shapes({"x": (1, 3, 8, 8)}).sizes == {}
        with pytest.raises(InputError, match="does not fit"):
            session.assume_shapes({"x": (1, 4, 8, 8)})
        with pytest.raises(InputError, match="no input 'y'"):
            session.assume_shapes({"y": (1,)})


def test_another_size_is_not_tried_where_it_would_not_help() -> None:
    from scheduler_models import chain
    from scheduler_stand_ins import make_provider

    one = make_provider("one", claims={"Neg"})
    with (
        Session(chain("Abs"), devices=["one"], registry=registry_of(one), strict=True) as session,
        pytest.raises(StrictPlacementError),
    ):
        session.assume_shapes()
