"""Writes a failing case down: as a model with its inputs, and as a test to paste."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx

from mace_testing.fuzzing.campaign import Case
from mace_testing.fuzzing.case import Array, OpCase
from mace_testing.fuzzing.graphs import GraphCase
from mace_testing.fuzzing.verdict import Verdict


def keep_failure(case: Case, verdict: Verdict, folder: Path, seed: int) -> Path:
    """Write ``<operator>-<seed>.onnx``, ``.npz`` with the feeds and ``.py`` with a test, whose path is returned."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = folder / f"{case.op.lower()}-{seed}"
    onnx.save(case.model(), str(stem.with_suffix(".onnx")))
    arrays = {name: a.astype(np.float32) if a.dtype.kind == "V" else a for name, a in case.feeds.items()}
    np.savez(stem.with_suffix(".npz"), **arrays)  # type: ignore[arg-type]
    path = stem.with_suffix(".py")
    text = as_graph_test(case, verdict, seed) if isinstance(case, GraphCase) else as_test(case, verdict, seed)
    path.write_text(text, encoding="utf-8")
    return path


def as_graph_test(case: GraphCase, verdict: Verdict, seed: int) -> str:
    """Source of a test that runs the graph under the placements that were drawn."""
    feeds = ", ".join(f"{name!r}: {_literal(array)}" for name, array in case.feeds.items())
    return (
        f'GRAPH_{seed} = r"""{onnx.printer.to_text(case.proto)}"""\n\n\n'
        f"def test_graph_{seed}() -> None:\n"
        f"    # {verdict.detail}\n"
        f"    check_graph(GRAPH_{seed}, {{{feeds}}}, {case.dice})\n"
    )


def as_test(case: OpCase, verdict: Verdict, seed: int) -> str:
    """Source of a test that runs the case."""
    return (
        f"def test_{case.op.lower()}_{seed}() -> None:\n"
        f"    # {verdict.outcome.value}: {verdict.detail}\n"
        f"    check({_source(case)})\n"
    )


def _source(case: OpCase) -> str:
    inputs = "".join(f"{_literal(array)}, " for array in case.inputs)
    given = {key: _literal(v) if isinstance(v, np.ndarray) else repr(v) for key, v in case.attributes.items()}
    parts = [repr(case.op), str(case.opset), f"({inputs})"]
    parts.append("{" + ", ".join(f"{key!r}: {value}" for key, value in given.items()) + "}")
    for name, default in (
        *(("outputs", (True,)), ("domain", ""), ("constants", frozenset()), ("symbolic", False)),
        *(("tolerance", None), ("off_by", 0)),
    ):
        value = getattr(case, name)
        if value != default:
            parts.append(f"{name}={value!r}")
    return f"OpCase({', '.join(parts)})"


def _literal(array: Array | None) -> str:
    """The array as source; long ones by their repeating start where that gives the same."""
    if array is None:
        return "None"
    values = array.astype(np.float64) if array.dtype.kind == "V" else array
    text = repr(values.reshape(-1).tolist()).replace("nan", "np.nan").replace("inf", "np.inf")
    return f"np.array({text}, '{array.dtype}').reshape({array.shape})"
