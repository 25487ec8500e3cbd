"""How sensitive a model is to each of its products: the noise in its results when that one alone is quantized."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mace_core.graph import Graph
from mace_core.graph.copying import copy_graph
from mace_core.progress import report
from mace_core.quantization.activations import Calibrated
from mace_core.quantization.calibrate import Runner
from mace_core.quantization.data import CalibrationData, Feeds
from mace_core.quantization.operators import RULES, Form
from mace_core.session import Session

SAMPLES = 4
"""Looked at for each product; the order of products settles early."""


def products_by_sensitivity(calibrated: Calibrated, data: CalibrationData, runner: Runner) -> list[tuple[str, float]]:
    """``(node, signal to noise of the results in dB)``, the most sensitive first."""
    feeds = [feeds for _, feeds in itertools.islice(data, SAMPLES)]
    wanted = results_of(calibrated.graph, feeds, runner)
    products = [n.name for n in calibrated.configure({}).nodes if RULES[n.op_type].form is Form.PRODUCT]
    found: list[tuple[str, float]] = []
    for number, name in enumerate(products):
        report("ranking layers by sensitivity", number, len(products))
        others = {other: "another product is looked at" for other in products if other != name}
        noise = noise_of(results_of(calibrated.quantize(others).graph, feeds, runner), wanted)
        found.append((name, decibels(noise)))
    report("ranking layers by sensitivity", len(products), len(products))
    return sorted(found, key=lambda entry: entry[1])


def results_of(graph: Graph, feeds: Sequence[Feeds], runner: Runner) -> list[npt.NDArray[Any]]:
    """What a graph, which is left as it is, gives for samples: its float outputs, sample after sample."""
    copy, _ = copy_graph(graph)
    with Session(copy, devices=runner.devices, options=runner.options, cache=False) as session:
        runs = [session.run(sample) for sample in feeds]
    return [
        array for run in runs for array in run.values() if isinstance(array, np.ndarray) and array.dtype.kind == "f"
    ]


def noise_of(found: Sequence[npt.NDArray[Any]], wanted: Sequence[npt.NDArray[Any]]) -> float:
    """The mean noise of results as a part of their power; each counts alike, so that none drowns another."""
    noise = count = 0.0
    for one, other in zip(found, wanted, strict=True):
        power = float(np.mean(np.square(other.astype(np.float64)))) if other.size else 0.0
        if one.shape == other.shape and power > 0:
            noise += float(np.mean(np.square(one.astype(np.float64) - other))) / power
            count += 1
    return noise / count if count else 0.0


def decibels(noise: float) -> float:
    """Signal to noise, of noise as a part of the signal's power."""
    return float("inf") if noise == 0 else float(-10 * np.log10(noise))
