"""Samples that go into a package, so that it proves itself where it runs (`mace validate MODEL.mace`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mace_core.deployment.precision import Precision
from mace_core.deployment.samples import Feeds
from mace_core.errors import UsageError
from mace_core.graph import Graph
from mace_core.numerics.samples import make_samples
from mace_core.package.samples import Sample

QUANTIZED_TOLERANCE = 0.1
"""Largest error of a quantized model as a part of an output's range: devices round in different places."""

STORED_TOLERANCE = 0.03
"""With weights in fewer bytes: what is expected was computed with those of the original."""


LARGEST_UNASKED = 256 << 10
"""Bytes of the inputs of a sample that nobody asked for."""


def proofs(graph: Graph, samples: Sequence[Feeds], label: str, precision: Precision, count: int | None) -> list[Sample]:
    """The first samples, with what the converted graph gives for them.

    Args:
        count: how many; None for one, if it takes little memory.

    Returns:
        None of them where no engine that is trusted here takes the graph.
    """
    if count is None:
        count = int(sum(array.nbytes for array in samples[0].values()) <= LARGEST_UNASKED)
    feeds = {f"sample {number}": sample for number, sample in enumerate(samples[:count])}
    allowed: Mapping[str, float] | None = None
    if precision.is_quantized:
        allowed = dict.fromkeys(("cpu", "gpu", "dsp", "apu", "npu", "default"), QUANTIZED_TOLERANCE)
    elif precision.stored:
        allowed = dict.fromkeys(("cpu", "gpu", "dsp", "apu", "npu", "default"), STORED_TOLERANCE)
    try:
        return make_samples(graph, feeds, sources=dict.fromkeys(feeds, label), tolerances=allowed)
    except UsageError:
        return []
