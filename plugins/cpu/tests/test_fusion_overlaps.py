"""Everything that is fused, next to everything else that is fused, sharing values in every way.

Each composite is lowered as one subgraph by the provider alone (a lowering that fails is an error here, not a
fallback) and compared with onnxruntime, which has its own fusions switched off.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from fusion_pieces import INPUTS, PIECES, SHAPE, Composite, Piece
from harness import make_view, run_view

TOLERANCE = 1e-4
"""Largest difference as a share of the largest number."""

SMALLEST_OF_MEANING = 1e-2
"""What is smaller than this everywhere, where inputs are of size 1, is measured as if it were as large: the mean of
something centered is nothing but rounding."""

ROUNDED_TOLERANCE = 5e-3
"""The mean difference where a rounding error may decide between two whole numbers."""

NAMES = sorted(PIECES)


@cache
def feeds() -> dict[str, npt.NDArray[np.float32]]:
    rng = np.random.default_rng(11)
    return {name: rng.standard_normal(SHAPE).astype(np.float32) for name in INPUTS}


def expected_values(composite: Composite) -> dict[str, npt.NDArray[Any]]:
    """Every value by onnxruntime, node by node."""
    names = [name for node in composite.nodes for name in node.output]
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    model = onnx.shape_inference.infer_shapes(composite.model(names))
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    return dict(zip(names, session.run(None, feeds()), strict=True))


def check(composite: Composite, expected: dict[str, npt.NDArray[Any]], outputs: Sequence[str], rounds: bool) -> None:
    arrays = {**feeds(), **composite.constants}
    view = make_view(composite.model(outputs), arrays, expected, outputs)
    found = run_view(view, feeds(), runs=1).outputs
    for name in outputs:
        right, mine = expected[name].astype(np.float64), found[name].astype(np.float64)
        largest = max(float(np.abs(right).max()), SMALLEST_OF_MEANING)
        difference = np.abs(mine - right) / largest
        worst = float(difference.mean()) if rounds else float(difference.max())
        limit = ROUNDED_TOLERANCE if rounds else TOLERANCE
        assert worst <= limit, f"{name} differs by {worst:.1e}; {[node.name for node in composite.nodes]}"


def pairs(first: Piece, second: Piece) -> Iterator[Composite]:
    """``second`` after ``first``: each operand of it in turn is each value that there is, the others the first's."""

    def begun() -> Composite:
        composite = Composite()
        first.build(composite, INPUTS[: first.operands])
        return composite

    values = begun().full
    for slot in range(second.operands):
        for value in values[1:]:
            composite = begun()
            operands = [values[-1]] * second.operands if slot else [values[-1], *INPUTS[1 : second.operands]]
            operands[slot] = value
            second.build(composite, operands)
            yield composite


def check_with_every_output(composite: Composite, rounds: bool, *, taps: bool) -> None:
    """With what nobody reads as outputs and, where asked, each other value of full size as one more output in turn."""
    expected, sinks = expected_values(composite), composite.sinks()
    check(composite, expected, sinks, rounds)
    if taps:
        for value in composite.full[len(INPUTS) :]:
            if value not in sinks:
                check(composite, expected, [*sinks, value], rounds)


def chain(names: Sequence[str], seed: int | None = None) -> tuple[Composite, bool]:
    """Pieces in a row, each reading the last value; with a seed, other operands are any values before."""
    rng = None if seed is None else np.random.default_rng(seed)
    composite = Composite()
    for name in names:
        operands = [composite.full[-1] if composite.nodes else INPUTS[0]]
        for slot in range(1, PIECES[name].operands):
            operands.append(INPUTS[slot] if rng is None else str(rng.choice(composite.full)))
        if rng is not None and rng.random() < 0.3:
            operands[0] = str(rng.choice(composite.full))
        PIECES[name].build(composite, operands)
    return composite, any(PIECES[name].rounds for name in names)


@pytest.mark.parametrize("first", NAMES)
def test_each_other_pair_in_a_row(first: str) -> None:
    """All of them are in the triples of the full tier."""
    for second in NAMES[NAMES.index(first) % 2 :: 2]:
        composite, rounds = chain([first, second])
        check_with_every_output(composite, rounds, taps=False)


@pytest.mark.parametrize(
    "seed", [pytest.param(seed, marks=[pytest.mark.full] if seed % 3 else []) for seed in range(60)]
)
def test_pieces_that_share_values(seed: int) -> None:
    rng = np.random.default_rng(seed)
    composite, rounds = chain([str(name) for name in rng.choice(NAMES, int(rng.integers(2, 6)))], seed)
    check_with_every_output(composite, rounds, taps=False)


@pytest.mark.full
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("first", NAMES)
def test_every_pair_sharing_every_value(first: str) -> None:
    for second in NAMES:
        for composite in pairs(PIECES[first], PIECES[second]):
            check_with_every_output(composite, PIECES[first].rounds or PIECES[second].rounds, taps=True)


@pytest.mark.full
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("first", NAMES)
def test_every_triple_in_a_row(first: str) -> None:
    for second, third in itertools.product(NAMES, repeat=2):
        composite, rounds = chain([first, second, third])
        check_with_every_output(composite, rounds, taps=False)
