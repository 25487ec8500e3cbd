"""Shapes that only the run tells: planned in stages, each stage kept per signature."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scheduler_models import INT64, constant, model, nonzero_model, op, reshape_model, tensor
from scheduler_stand_ins import make_provider, registry_of

from mace_core.errors import MaceError
from mace_core.session import Session

X = np.float32([[-2, -1, 1, 3], [4, -5, 6, 0.5]])


@pytest.mark.parametrize(
    "claims", [set(), {"NonZero"}, {"Relu", "Neg"}, {"GatherND", "Transpose", "NonZero", "Relu", "Neg"}]
)
def test_what_lies_behind_unknown_shapes_is_planned_when_they_are_known(claims: set[str]) -> None:
    far = make_provider("far", claims=claims)
    with Session(nonzero_model(), devices=["far"], registry=registry_of(far)) as session:
        for x in (X, -X, X[:1], np.zeros_like(X)):
            found = session.run({"x": x})
            np.testing.assert_array_equal(found["places"], np.argwhere(x > 0))
            np.testing.assert_array_equal(found["y"], -x[x > 0])


def test_a_stage_is_planned_once_per_shape_it_meets() -> None:
    far = make_provider("far", claims={"Neg"})
    with Session(nonzero_model(), devices=["far"], registry=registry_of(far)) as session:
        for x in (X, X + 0.25, X[::-1]):  # five positive values each
            session.run({"x": x})
        assert far.opened[-1].compile_calls == 1
        session.run({"x": -X})  # three
        assert far.opened[-1].compile_calls == 2


def test_before_the_run_the_rest_is_told_to_be_waiting() -> None:
    with Session(nonzero_model(), devices=["reference"], registry=registry_of()) as session:
        found = session.explain({"x": (2, 4)})
        assert [entry.op for entry in found.nodes] == ["Relu", "NonZero"]
        assert found.waiting == ["Transpose_places", "GatherND_values", "Neg_y"]
        session.run({"x": X})
        assert session.explain().waiting == []


def test_contents_that_decide_shapes_are_part_of_the_signature() -> None:
    far = make_provider("far", claims={"Relu", "Neg"})
    with Session(reshape_model(), devices=["far"], registry=registry_of(far)) as session:
        for target in ([4, 2], [2, 4], [8, 1], [-1, 2]):
            y = session.run({"x": X, "to": np.array(target)})["y"]
            np.testing.assert_array_equal(y, np.maximum(-X, 0).reshape(target))
        with pytest.raises(MaceError, match="Reshape"):
            session.run({"x": X, "to": np.array([3, 3])})
        session.run({"x": X, "to": np.array([4, 2])})


def test_shape_arithmetic_needs_no_stage_and_no_node() -> None:
    nodes = [
        op("Shape", ["x"], ["s"]),
        op("Gather", ["s", "last"], ["d"]),
        op("Concat", ["d", "minus"], ["to"], axis=0),
        op("Reshape", ["x", "to"], ["y"]),
    ]
    constants = [constant("last", np.array([1])), constant("minus", np.array([-1]))]
    built = model(nodes, [tensor("x", ["n", "m"])], [tensor("y", [None, None]), tensor("to", [2], INT64)], constants)
    far = make_provider("far")
    with Session(built, devices=["far"], registry=registry_of(far), strict=True) as session:
        for x in (X, X[:, :3], X[:1]):
            found = session.run({"x": x})
            np.testing.assert_array_equal(found["y"], x.reshape(x.shape[1], -1))
            np.testing.assert_array_equal(found["to"], [x.shape[1], -1])
        explanation = session.explain()
        assert [entry.op for entry in explanation.nodes] == ["Reshape"]
        assert explanation.folded == ["Shape_s", "Gather_d", "Concat_to"]


def test_many_stages_in_a_row() -> None:
    names = ["x", *(f"v{i}" for i in range(30))]
    nodes = []
    for before, after in itertools.pairwise(names):
        nodes += [op("NonZero", [before], [f"p_{after}"]), op("Cast", [f"p_{after}"], [after], to=1)]
    built = model(nodes, [tensor("x", ["n"])], [tensor(names[-1], [None, None])])
    x = np.float32([0, 1, 0, 2, 3])
    expected = x
    for _ in names[1:]:
        expected = np.stack(np.nonzero(expected)).astype(np.float32)
    with Session(built, devices=["reference"], registry=registry_of()) as session:
        np.testing.assert_array_equal(session.run({"x": x})[names[-1]], expected)
