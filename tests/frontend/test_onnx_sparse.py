"""Sparse tensors: written out where they say, refused where they cannot be."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnx_models import info, model

from mace_core.errors import ModelError
from mace_core.frontend import load_model
from mace_core.session import Session


def sparse_model(values: np.ndarray, indices: np.ndarray, dims: list[int], *, as_constant: bool) -> onnx.ModelProto:
    """A model that returns a sparse tensor, an initializer or the value of a Constant node, as it is."""
    tensor = helper.make_sparse_tensor(
        numpy_helper.from_array(values, "s"), numpy_helper.from_array(indices, "i"), dims
    )
    nodes = [helper.make_node("Identity", ["s"], ["y"])]
    if as_constant:
        nodes.insert(0, helper.make_node("Constant", [], ["s"], sparse_value=tensor))
    made = model(nodes, [], [info("y", dims)])
    if not as_constant:
        made.graph.sparse_initializer.append(tensor)
    return made


TWO = np.array([5, 7], np.float32)


@pytest.mark.parametrize("as_constant", [False, True])
@pytest.mark.parametrize(
    ("values", "indices", "dims", "places"),
    [
        (TWO, np.array([1, 5]), [2, 3], [1, 5]),
        (TWO, np.array([5, 1]), [2, 3], [5, 1]),
        (TWO, np.array([[0, 1], [1, 2]]), [2, 3], [1, 5]),
        (TWO, np.array([0, 1]), [2], [0, 1]),
        (TWO, np.array([[0], [1]]), [2], [0, 1]),
        (TWO[:1], np.array([0]), [], [0]),
        (TWO[:0], np.zeros(0, np.int64), [2, 3], []),
        (TWO[:0], np.zeros((0, 2), np.int64), [2, 0], []),
    ],
)
def test_sparse_tensors_are_written_out(
    values: np.ndarray, indices: np.ndarray, dims: list[int], places: list[int], as_constant: bool
) -> None:
    expected = np.zeros(dims, np.float32)
    expected.reshape(-1)[places] = values
    with Session(sparse_model(values, indices, dims, as_constant=as_constant), devices=["reference"]) as session:
        np.testing.assert_array_equal(session.run({})["y"], expected, strict=True)


@pytest.mark.parametrize("as_constant", [False, True])
@pytest.mark.parametrize(
    ("values", "indices", "dims", "words"),
    [
        (TWO, np.array([1, 6]), [2, 3], "index outside its shape"),
        (TWO, np.array([-1, 2]), [2, 3], "index outside its shape"),
        (TWO, np.array([[0, 1], [2, 0]]), [2, 3], "index outside its shape"),
        (TWO, np.array([[0, 1], [0, 3]]), [2, 3], "index outside its shape"),
        (TWO, np.array([[0, 1], [0, -1]]), [2, 3], "index outside its shape"),
        (TWO, np.array([0, 1]), [0, 3], "index outside its shape"),
        (TWO, np.array([1, 1]), [2, 3], "two values for one index"),
        (TWO, np.array([[0, 1], [0, 1]]), [2, 3], "two values for one index"),
        (TWO, np.array([0, 1]), [1 << 40, 1 << 40], "when written out"),
        (TWO, np.array([0, 1]), [2, -3], "negative size"),
        (TWO.reshape(2, 1), np.array([0, 1]), [2, 3], "must be a list"),
        (TWO, np.array([[0, 1, 0], [1, 2, 0]]), [2, 3], "values but indices"),
        (TWO, np.array([0, 1], np.int32), [2, 3], "values but indices"),
        (TWO[:0], np.zeros((0, 2), np.int64), [0, 1 << 62], "is not supported"),
    ],
)
def test_sparse_tensors_that_cannot_be_are_refused(
    values: np.ndarray, indices: np.ndarray, dims: list[int], words: str, as_constant: bool
) -> None:
    with pytest.raises(ModelError, match=words):
        load_model(sparse_model(values, indices, dims, as_constant=as_constant))
