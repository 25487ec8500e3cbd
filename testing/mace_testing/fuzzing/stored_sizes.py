"""Plans of symbolic sizes that were stored, beside plans that are made anew.

`compare_stored` runs a model three times over the same sequence of shapes: without a cache, with one, and with what is
in the cache then.  The last must hold for the same sizes, compute the same places and words, and give the same bytes.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import numpy as np
import onnx
from mace_cpu.plan.subgraph import CpuSubgraph

from mace_core.caching.cache import cache_dir
from mace_core.errors import MaceError
from mace_core.native.sizes import PlanSizes
from mace_core.scheduler.planning.plan import RunStep
from mace_core.scheduler.running.plans import GraphPlan
from mace_testing.fuzzing.case import Array
from mace_testing.fuzzing.sizes import SymbolicModel, free_dimensions

MOST_VALUES = 40
"""Sets of sizes for which two plans are compared without a run."""


@dataclass
class StoredFindings:
    """What storing came to.

    Attributes:
        made: plans of symbolic sizes that a session without a cache makes.
        restored: those of them that the last session found in the cache.
        refused: sets of sizes that some plan does not hold for.
        faults: in what restored plans differ from new ones.
    """

    made: int = 0
    restored: int = 0
    refused: int = 0
    faults: list[str] = field(default_factory=list)


def compare_stored(
    model: onnx.ModelProto, feeds: Mapping[str, Array], others: Sequence[Mapping[str, Array]], *, free: bool = True
) -> StoredFindings:
    """Plan ``model`` at the shapes of ``feeds`` and ``others``, in this order, anew and out of the cache.

    ``free``: every input dimension may vary, whatever the model declares.
    """
    model = free_dimensions(model) if free else model
    with _empty_cache():
        return _compared(model, [feeds, *others, feeds])


@contextmanager
def _empty_cache() -> Iterator[None]:
    """A cache folder that has the kernels of the one there is, and nothing else."""
    with TemporaryDirectory() as name, mock.patch.dict(os.environ):
        kernels = cache_dir() / "kernels"
        kernels.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = Path(name) / "cache"
        folder.mkdir(mode=0o700)
        (folder / "kernels").symlink_to(kernels)
        os.environ["MACE_CACHE_DIR"] = str(folder)
        yield


def _compared(model: onnx.ModelProto, given: Sequence[Mapping[str, Array]]) -> StoredFindings:
    findings = StoredFindings()
    with SymbolicModel(model, cache=True) as first:
        for each in given:
            _outcome(first, each)
    with SymbolicModel(model) as fresh, SymbolicModel(model, cache=True) as stored:
        for each in given:
            expected, found = _outcome(fresh, each), _outcome(stored, each)
            if found != expected:
                shapes = {name: array.shape for name, array in each.items()}
                findings.faults.append(f"at {shapes}: {_told(found)} instead of {_told(expected)}")
        findings.made = len(fresh.plans)
        findings.restored = sum(one.restored for one in stored.session._model.preparations)
        for plan in stored.plans:  # which of several that hold is found first is another matter
            same = [_compared_plans(plan, other) for other in fresh.plans if _guards(other) == _guards(plan)]
            best = min(same, key=lambda found: len(found.faults), default=None)
            if best is None:
                findings.faults.append(f"guards {_guards(plan)}, not {[_guards(other) for other in fresh.plans]}")
            else:
                findings.refused += best.refused
                findings.faults += best.faults
    return findings


def _guards(plan: GraphPlan) -> tuple[str, ...]:
    assert plan.plan.sizes is not None
    return plan.plan.sizes.texts


def _outcome(model: SymbolicModel, feeds: Mapping[str, Array]) -> list[Any] | str:
    """The bytes of the results, or that there are none: for what no plan takes, it matters which one is asked first
    whether it is told as the node's fault or as one of the run."""
    try:
        found = model.run(feeds)
    except MaceError:
        return "an error"
    return [(array.shape, array.dtype, array.tobytes()) for array in map(np.asarray, found)]


def _told(outcome: list[Any] | str) -> str:
    return outcome if isinstance(outcome, str) else f"results of {[shape for shape, *_ in outcome]}"


def _compared_plans(stored: GraphPlan, fresh: GraphPlan) -> StoredFindings:
    findings = StoredFindings()
    mine, theirs = stored.plan.sizes, fresh.plan.sizes
    trace = fresh.plan.stage.trace
    assert mine is not None and theirs is not None and trace is not None
    if mine.largest != theirs.largest:
        findings.faults.append(f"symbols up to {mine.largest} not {theirs.largest}")
    hints = [atom.hint for atom in trace.atoms[: trace.symbols]]
    drawn = random.Random(repr(hints))
    for number in range(MOST_VALUES):
        values = [hint if drawn.random() < 0.4 else drawn.choice((2, 3, 17, hint + 1, 2 * hint)) for hint in hints]
        values = hints if number == 0 else values
        found, expected = mine.admit(values), theirs.admit(values)
        if (found is None) is not (expected is None):
            findings.faults.append(f"{values}: {'refused' if found is None else 'admitted'}")
        if found is None or expected is None:
            findings.refused += 1
            continue
        for name in ("registers", "workspaces", "arenas"):
            if getattr(found, name) != getattr(expected, name):
                findings.faults.append(f"{values}: {name} {getattr(found, name)} not {getattr(expected, name)}")
        for (index, content), (_, other) in zip(found.contents, expected.contents, strict=True):
            if not np.array_equal(content, other):
                findings.faults.append(f"{values}: register {index} holds {content} not {other}")
        if _words(stored, values) != _words(fresh, values):
            findings.faults.append(f"{values}: other words")
    return findings


def _words(plan: GraphPlan, values: Sequence[int]) -> list[Any]:
    """What the CPU's programs compute, but for places in constants: those are addresses."""
    found: list[Any] = []
    for step in plan.plan.steps:
        if isinstance(step, RunStep) and isinstance(step.compiled, CpuSubgraph):
            assembly = step.compiled.assembly
            if assembly.sizes is not None:
                relocations = assembly.relocations
                found.append([assembly.words.shape, relocations[:, :2].tolist()])
                found.append(_computed(assembly.sizes, relocations, values))
    return found


def _computed(sizes: PlanSizes, relocations: Any, values: Sequence[int]) -> list[Any]:
    registers = sizes.program.run(values)
    is_constant = relocations[:, 1] == 1
    return [
        [(word, registers[register]) for word, register in sizes.words.tolist()],
        [(step, column, registers[register]) for step, column, register in sizes.steps.tolist()],
        [(at, registers[register]) for at, register in sizes.relocations.tolist() if not is_constant[at]],
    ]
