"""Whether a converted model gives what the original does, on each device: MACE's measure and thresholds.

The measure is the cosine similarity of each output with what the framework computes; the signal to noise ratio and the
share of pixels (or rows) with the same largest channel are told beside it.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mace_core.deployment.runtimes import Checked
from mace_core.deployment.samples import Feeds
from mace_core.errors import MaceError
from mace_core.graph import Graph
from mace_core.graph.copying import copy_graph
from mace_core.numerics.difference import compare
from mace_core.numerics.peers import PEERS
from mace_core.progress import report
from mace_core.session import Session

Outputs = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Verdict:
    """One output of one device, over all samples.

    Attributes:
        device: its name.
        output: name of the output.
        similarity: cosine of the angle to what was expected, of the worst sample.
        sqnr_db: signal to noise in decibels, of the worst sample.
        agreement: share of rows whose largest element is the same one, over all samples; None for a scalar.
        threshold: the least similarity allowed.
        samples: how many.
        elsewhere: nodes that did not run on the device.
        is_checked: some did; what others compute proves nothing of the device.
        failure: why it could not be compared; "" where it was.
    """

    device: str
    output: str
    similarity: float
    sqnr_db: float
    agreement: float | None
    threshold: float
    samples: int
    elsewhere: int = 0
    is_checked: bool = True
    failure: str = ""

    @property
    def is_good(self) -> bool:
        """Whether the similarity is at least the threshold."""
        return not self.failure and self.similarity >= self.threshold


@dataclass(slots=True)
class Judgement:
    """What was compared, with what.

    Attributes:
        against: who computed what was expected.
        inputs: where the inputs are from.
        verdicts: one for each device and output.
    """

    against: str
    inputs: str
    verdicts: list[Verdict] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        """Whether every output of every device is near enough."""
        return all(verdict.is_good for verdict in self.verdicts)


def expected_outputs(reference: Graph, samples: Sequence[Feeds]) -> tuple[list[Outputs], str]:
    """What the original computes, by onnxruntime where it is installed, else by the reference provider.

    Raises:
        MaceError: if neither can run it.
    """
    if importlib.util.find_spec("onnxruntime") is not None:
        try:
            return [PEERS["onnxruntime"](reference, sample) for sample in samples], "onnxruntime"
        except MaceError:  # an operator that it does not know
            if importlib.util.find_spec("mace_cpu") is None:
                raise
    graph, _ = copy_graph(reference)
    with Session(graph, devices=["reference"], cache=False) as session:
        return [session.run(sample) for sample in samples], "the reference provider"


def judge(
    package: Path,
    devices: Sequence[Checked],
    thresholds: Mapping[str, float],
    samples: Sequence[Feeds],
    expected: Sequence[Outputs],
    options: Mapping[str, Mapping[str, object]],
) -> list[Verdict]:
    """Compare what devices compute of a package with what is expected."""
    verdicts = []
    for number, device in enumerate(devices):
        report("checking results", number, len(devices))
        threshold = thresholds[device.threshold]
        try:
            with Session(package, devices=list(device.devices), options=options or None) as session:
                found = [session.run(sample) for sample in samples]
                elsewhere, is_checked = _elsewhere(session, device.name)
        except MaceError as error:
            names = list(expected[0]) if expected else ["the model"]
            verdicts += [_failed(device.name, name, threshold, len(samples), str(error)) for name in names]
            continue
        for name in expected[0]:
            verdict = _compared(
                device.name, name, threshold, [run[name] for run in found], [run[name] for run in expected]
            )
            verdicts.append(replace(verdict, elsewhere=elsewhere, is_checked=is_checked))
    report("checking results", len(devices), max(len(devices), 1))
    return verdicts


def _failed(device: str, output: str, threshold: float, samples: int, why: str) -> Verdict:
    return Verdict(device, output, math.nan, -math.inf, None, threshold, samples, failure=why)


def _elsewhere(session: Session, device: str) -> tuple[int, bool]:
    """Nodes that ran on another provider's device, and whether any ran on this one's."""
    provider = device.partition(":")[0]
    places = [entry.device.partition(":")[0] for entry in session.explain().nodes]
    others = sum(place not in (provider, "core") for place in places)
    return others, not others or provider in places


def _compared(device: str, output: str, threshold: float, found: list[Any], expected: list[Any]) -> Verdict:
    differences = [compare(one, _as(other, one)) for one, other in zip(found, expected, strict=True)]
    odd = next((difference.note for difference in differences if difference.note), "")
    if odd:
        return _failed(device, output, threshold, len(found), odd)
    shares = [
        share for one, other in zip(found, expected, strict=True) if (share := _agreement(one, other)) is not None
    ]
    return Verdict(
        device,
        output,
        min(difference.cosine for difference in differences),
        min(difference.sqnr_db for difference in differences),
        float(np.mean(shares)) if shares else None,
        threshold,
        len(found),
    )


def _as(expected: Any, found: Any) -> Any:
    """What was expected in the type of what was found: files hold float32 for every float."""
    if isinstance(expected, np.ndarray) and isinstance(found, np.ndarray) and expected.dtype != found.dtype:
        return expected.astype(found.dtype)
    return expected


def _agreement(found: Any, expected: Any) -> float | None:
    """The share of rows (along the last axis) whose largest element is the same."""
    if not isinstance(found, np.ndarray) or found.ndim < 2 or not found.size or found.dtype.kind not in "fiu":
        return None
    rows = found.reshape(-1, found.shape[-1]), np.asarray(expected).reshape(-1, found.shape[-1])
    return float(np.mean(np.argmax(rows[0], axis=1) == np.argmax(rows[1], axis=1)))
