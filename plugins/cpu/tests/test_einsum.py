"""Sums of products over any indices."""

from __future__ import annotations

import numpy as np
import pytest
from harness import FEATURES, check_node, rejection, sample

CASES = [
    ("ij->ji", [(3, 4)]),
    ("ii->i", [(4, 4)]),
    ("...ii->...i", [(2, 4, 4)]),
    ("ij->", [(3, 4)]),
    ("ij->i", [(3, 4)]),
    ("i,i", [(5,), (5,)]),
    ("ij,jk", [(3, 4), (4, 5)]),
    ("bij,bjk->bik", [(2, 3, 4), (2, 4, 5)]),
    ("bhqd,bhkd->bhqk", [(2, 2, 3, 4), (2, 2, 5, 4)]),
    ("...ij,...jk->...ik", [(2, 1, 3, 4), (5, 4, 6)]),
    ("a,b,c->cab", [(2,), (3,), (4,)]),
    ("ij,jk,kl->il", [(2, 3), (3, 4), (4, 2)]),
    ("ba,b->a", [(3, 4), (3,)]),
    ("i,j->ij", [(3,), (0,)]),
    ("ij,jk->ik", [(3, 0), (0, 5)]),
    (",ij->ij", [(), (2, 3)]),
    ("i i -> i", [(3, 3)]),
]


@pytest.mark.parametrize(("equation", "shapes"), CASES)
@pytest.mark.parametrize("dtype", ["float32", "float64", "int32"])
def test_equations(equation: str, shapes: list[tuple[int, ...]], dtype: str) -> None:
    feeds = [sample(shape, dtype) for shape in shapes]
    expected = np.asarray(np.einsum(equation, *feeds)).astype(dtype)
    check_node("Einsum", feeds, {"equation": equation}, expected=[expected], threads=2)


@pytest.mark.parametrize("features", FEATURES)
def test_equations_on_every_instruction_set(features: str | None) -> None:
    feeds = [sample((3, 40)), sample((40, 20))]
    check_node("Einsum", feeds, {"equation": "ij,jk->ik"}, features=features, tol=1e-4)


def test_equations_that_do_not_fit_are_declined() -> None:
    x = sample((2, 3))
    assert "1 operands" in rejection("Einsum", [x, x], [x], {"equation": "ij->ij"})
    assert "does not fit 2 dimensions" in rejection("Einsum", [x], [x], {"equation": "i->i"})
    assert "sizes 2 and 3" in rejection("Einsum", [x], [x], {"equation": "ii->i"})
    assert "no operand has the index 'k'" in rejection("Einsum", [x], [x], {"equation": "ij->k"})
