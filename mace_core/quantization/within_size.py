"""Mixed precision within a size: what each constant costs at each level, and the model that the choice gives."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeAlias

import numpy as np

from mace_core.graph import Graph, Node, Value
from mace_core.progress import report
from mace_core.quantization.budget import FLOAT, Budget, Stored, check_limit, fit
from mace_core.quantization.calibrate import Runner
from mace_core.quantization.data import CalibrationData
from mace_core.quantization.encodings import dequantize
from mace_core.quantization.outcome import Outcome
from mace_core.quantization.ranking import SAMPLES, decibels, noise_of, results_of
from mace_core.quantization.tables import is_table_lookup

REASON = "the size asked for leaves room for it in float"

Make: TypeAlias = "Callable[[Mapping[str, str]], Outcome]"
"""Levels of nodes, of those that are not at their lowest, to what comes of them."""

Noise: TypeAlias = "Callable[[Node, Outcome], float]"
"""What an outcome, in which constants of one node alone are not in float, adds to the results."""


def quantize_within(
    graph: Graph, make: Make, limit: int, scheme: str, *, data: CalibrationData | None, runner: Runner
) -> Outcome:
    """The outcome with the least noise among those whose file has at most ``limit`` bytes, nearly.

    With data, noise is that of the model's results where one constant alone is not in float; without, that of the
    constant itself.

    Args:
        graph: in float; it stays as it is.
        make: quantizes it.

    Raises:
        UsageError: if no choice is as small, or nothing has to be quantized.
    """
    from mace_core.frontend.onnx.export import file_size

    lowest = make({})
    smallest, whole = file_size(lowest.graph), file_size(graph)
    check_limit(limit, smallest, whole, scheme)
    noise = _of_weights if data is None else _on_data(graph, data, runner)
    constants = list(_constants(graph, lowest, make, noise))
    found = lowest
    budget = Budget(limit)

    def made(levels: Mapping[str, str]) -> int:
        nonlocal found
        found = make(levels)
        return file_size(found.graph)

    if not fit(constants, budget, made, whole - sum(one.sizes[0] for one in constants)):
        found = lowest
        budget.size, budget.levels = smallest, {node: one.levels[-1] for one in constants for node in one.nodes}
    found.budget = budget
    if data is not None:
        chosen = ((one.nodes[0], one.noises[one.levels.index(budget.levels[one.nodes[0]])]) for one in constants)
        found.sensitivity = [(node, decibels(noise)) for node, noise in chosen if node in found.weights]
    return found


def _constants(graph: Graph, lowest: Outcome, make: Make, noise: Noise) -> Iterator[Stored]:
    readers: dict[Value, list[Node]] = {}
    for node in graph.nodes:
        value = node.inputs[0 if is_table_lookup(node) else 1] if node.name in lowest.weights else None
        if value is not None and value.constant is not None:
            readers.setdefault(value, []).append(node)
    floats = {node.name: FLOAT for nodes in readers.values() for node in nodes}
    for number, (value, nodes) in enumerate(readers.items()):
        report("ranking layers by sensitivity", number, len(readers))
        assert value.constant is not None
        integers, encoding = lowest.weights[nodes[0].name]
        around = encoding.scale.nbytes + encoding.dtype.nbytes(encoding.zero_point.size)
        levels, sizes, noises = [FLOAT], [value.constant.nbytes], [0.0]
        for bits in (8, 4):
            if bits < encoding.dtype.bits:
                break
            label = f"int{bits}"
            own = {node.name: label for node in nodes}
            levels.append(label)
            sizes.append(integers.size * bits // 8 + around)
            noises.append(noise(nodes[0], make({**floats, **own})))
        yield Stored(tuple(node.name for node in nodes), tuple(levels), tuple(sizes), tuple(noises))
    report("ranking layers by sensitivity", len(readers), len(readers))


def _of_weights(node: Node, outcome: Outcome) -> float:
    value = node.inputs[0 if is_table_lookup(node) else 1]
    assert value is not None and value.constant is not None
    weights = value.constant.numpy()
    change = dequantize(*outcome.weights[node.name]) - weights
    power = float(np.square(weights, dtype=np.float64).sum())
    return float(np.square(change, dtype=np.float64).sum()) / power if power > 0 else 0.0


def _on_data(graph: Graph, data: CalibrationData, runner: Runner) -> Noise:
    feeds = [feeds for _, feeds in itertools.islice(data, SAMPLES)]
    wanted = results_of(graph, feeds, runner)
    return lambda _, outcome: noise_of(results_of(outcome.graph, feeds, runner), wanted)


def named(levels: Mapping[str, str], level: str) -> Sequence[str]:
    """The nodes at a level."""
    return [node for node, own in levels.items() if own == level]
