"""Placements by cost beside known rules: what each would take, by the same model of costs.

    python benchmarks/placement.py MODEL.onnx[@SIZE]…

SIZE stands for free dimensions that are the last, or the height of images; others are 1.

The devices are phone-like, and their rates made up.  Nothing here runs a model: it compares ways to decide on the same
numbers.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from mace_core import Session
from mace_core.graph import GraphView
from mace_core.policies import Limits, Link, Objective, Problem, Tensor, choose, predict
from mace_core.provider import Capability, Claim
from mace_core.scheduler.costs.rates import Rates, WorkKind
from mace_core.scheduler.placing.baselines import exhaustive
from mace_core.scheduler.planning.partition import Offer, Partition
from mace_core.scheduler.planning.placement import views_of
from mace_core.scheduler.planning.stating import state


def _rates(gmacs: float, small_gmacs: float, launch: float, border: float, watts: float) -> Rates:
    """A device that needs large nodes to reach ``gmacs``; borders cost ``border`` seconds and 0.2 ns a byte."""
    curve = ((10**5, 1e-4 / small_gmacs), (10**8, 0.1 / gmacs))
    kinds = (WorkKind.CONVOLUTION, WorkKind.POINTWISE, WorkKind.MATMUL, WorkKind.INTEGER)
    depthwise = ((10**5, 4e-4 / small_gmacs), (10**8, 0.8 / gmacs))
    link = Link(border, 2e-10) if border else Link()
    return Rates(
        launch,
        2e-6,
        1e-10,
        dict.fromkeys((*kinds, WorkKind.DEPTHWISE), 1e-9 / gmacs),
        link,
        link,
        watts,
        "made up",
        {**dict.fromkeys(kinds, curve), WorkKind.DEPTHWISE: depthwise},
        0.1,
    )


PHONE = {
    "cpu:0": _rates(40, 20, 1e-5, 0.0, 3.0),
    "gpu:0": _rates(300, 10, 6e-5, 3e-5, 2.0),
    "npu:0": _rates(2000, 60, 1.5e-4, 8e-5, 1.0),
}
"""Phone-like, made up: a GPU of high launch cost, an NPU of higher ones that runs convolutions and their like alone."""

_NPU = frozenset(
    ["Conv", "Gemm", "MatMul", "Relu", "Clip", "Add", "Mul", "Concat", "MaxPool", "AveragePool", "GlobalAveragePool"]
)
_GPU_LACKS = frozenset(["LSTM", "GRU", "NonZero", "TopK", "NonMaxSuppression", "If", "Loop"])


def view_of(given: str, values: Mapping[str, int]) -> GraphView:
    """The whole model as devices are asked about it; ``values`` fill inputs that are not to be zero."""
    model, _, size = given.partition("@")
    import numpy as np

    with Session(model, devices=["cpu"], policy="order") as session:
        if session._runner.last_plan is None:
            feeds = {}
            for spec in session.inputs:
                rank = len(spec.shape or ())
                is_size = [axis == rank - 1 or (rank == 4 and axis == 2) for axis in range(rank)]
                free = [int(size) if large and size else 1 for large in is_size]
                shape = [d if isinstance(d, int) else free[axis] for axis, d in enumerate(spec.shape or ())]
                feeds[spec.name] = np.full(shape, values.get(spec.name, 0), spec.dtype.numpy)
            session.run(feeds)
        plan = session._runner.last_plan
        assert plan is not None
        stage = plan.plan.stage
        return views_of(stage, [Partition("", stage.nodes)], Path(model).stem)[0]


def phone_problem(view: GraphView) -> Problem:
    """``view`` on the phone-like devices."""
    claims = {
        "cpu:0": view.nodes,
        "gpu:0": [node for node in view.nodes if node.op_type not in _GPU_LACKS],
        "npu:0": [node for node in view.nodes if node.op_type in _NPU],
    }
    return problem_of(view, claims, PHONE)


def problem_of(view: GraphView, claims: Mapping[str, Sequence[object]], rates: Mapping[str, Rates]) -> Problem:
    """The placement of ``view`` where each device takes the nodes of ``claims``."""
    offers = [
        Offer(name, Capability(claims=tuple(Claim((node,)) for node in nodes)), False, {})  # type: ignore[arg-type]
        for name, nodes in claims.items()
    ]
    stated = state(view, offers, rates, {}, frozenset())
    assert stated is not None, "there is a choice"
    return stated.problem


def random_problem(rng: random.Random, units: int, devices: int = 3) -> Problem:
    """A network with branches whose units are faster now here, now there."""
    seconds = []
    for _ in range(units):
        first = rng.uniform(2e-5, 5e-4)
        seconds.append((first, *(first * rng.uniform(0.1, 3) for _ in range(devices - 1))))
    readers: dict[int, list[int]] = {}
    for unit in range(units):
        for producer in rng.sample(range(max(-1, unit - 3), unit), min(unit + 1, rng.choice([1, 1, 2]))):
            readers.setdefault(producer, []).append(unit)
    tensors = [
        Tensor(producer, tuple(readers.get(producer, ())), rng.choice([10**4, 10**5, 10**6]), producer not in readers)
        for producer in range(-1, units)
    ]
    tensors[0] = Tensor(-1, tensors[0].readers, tensors[0].nbytes)
    link = Link(3e-5, 2e-10)
    return Problem(
        tuple(f"d{number}:0" for number in range(devices)),
        tuple(seconds),
        tuple(tensors),
        tuple(tuple(link for _ in range(devices)) for _ in range(devices)),
        tuple((link, link) if number else (Link(), Link()) for number in range(devices)),
        (1e-6, *(3e-5 for _ in range(devices - 1))),
    )


def row_of(name: str, problem: Problem, objective: Objective = Objective.LATENCY) -> str:
    """A line of the table, in milliseconds."""
    start = time.process_time()
    choice = choose(problem, objective)
    took = time.process_time() - start
    others = {rule: objective.of(prediction) * 1e3 for rule, prediction in choice.others.items()}
    alone = others["home device first"]
    last = problem.devices[-1]
    greedy = min(value for rule, value in others.items() if rule.startswith("greedy"))
    best = objective.of(choice.best) * 1e3
    free = choose(problem, objective, limits=Limits(partitions=problem.units)).best
    devices = "+".join(dict.fromkeys(problem.devices[piece.device] for piece in choice.best.pieces))
    figures = " | ".join(f"{cell:.2f}" for cell in (alone, others[f"{last} takes all it can"], greedy))
    heft = f"{others['HEFT']:.2f} in {len(choice.others['HEFT'].pieces)}"
    chosen = f"{best:.2f} in {len(choice.best.pieces)} on {devices}"
    unbound = f"{objective.of(free) * 1e3:.2f} in {len(free.pieces)}"
    return f"| {name} | {problem.units} | {figures} | {heft} | {chosen} | {unbound} | {took * 1e3:.0f} |"


def gap(count: int = 20, units: int = 6) -> tuple[float, float]:
    """Mean and worst ratio to the best of all assignments, on small random graphs without limits."""
    rng = random.Random(0)
    ratios = []
    for _ in range(count):
        problem = random_problem(rng, units)
        best = choose(problem, Objective.LATENCY, limits=Limits(partitions=100, gain=0, seconds=0)).best
        optimum = min(predict(problem, assignment).sequential for assignment in exhaustive(problem))
        ratios.append(best.sequential / optimum)
    return sum(ratios) / len(ratios), max(ratios)


def tell(line: str) -> None:
    """Write a line."""
    sys.stdout.write(line + "\n")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("models", nargs="*")
    parser.add_argument(
        "--value", action="append", default=[], metavar="INPUT=NUMBER", help="what an input is filled with"
    )
    given = parser.parse_args()
    values = {name: int(number) for name, _, number in (each.partition("=") for each in given.value)}
    rules = "first provider takes all | MACE's greedy rule | HEFT"
    named = [(Path(model.partition("@")[0]).stem, phone_problem(view_of(model, values))) for model in given.models]
    rng = random.Random(1)
    named += [(f"random, {units} units", random_problem(rng, units)) for units in (50, 500)]
    for objective, what in ((Objective.LATENCY, "a run"), (Objective.THROUGHPUT, "from result to result")):
        tell(f"\n{objective.value}, milliseconds {what}; `in 9` is the number of partitions:\n")
        tell(f"| graph | units | CPU alone | {rules} | by cost | by cost, no bound | ms to decide |")
        tell("|---" * 9 + "|")
        for name, problem in named:
            tell(row_of(name, problem, objective))
    mean, worst = gap()
    tell(f"\nof the best of all assignments, 20 graphs of 6 units on 3 devices: {mean:.4f} mean, {worst:.4f} worst")


if __name__ == "__main__":
    main()
