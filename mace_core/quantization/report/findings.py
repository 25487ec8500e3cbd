"""What is said about a quantized model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class LayerFinding:
    """One node of the float model.

    Attributes:
        name, op_type: of the node.
        output: name of the value that it computes.
        form: what it became: "int8", "int4" … ; "float" where it stayed.
        reason: why it stayed in float; "" where it did not, or where nobody would expect otherwise.
        sqnr_db, cosine: of its result in the quantized model against the float model, after everything before it; None
            where that was not measured.
        alone_sqnr_db: of the model's results when it alone is quantized; None where that was not measured.
        weight_sqnr_db: of its weights; None where it has none.
        float_bytes, stored_bytes: of its weights, before and after.
    """

    name: str
    op_type: str
    output: str
    form: str
    reason: str = ""
    sqnr_db: float | None = None
    cosine: float | None = None
    alone_sqnr_db: float | None = None
    weight_sqnr_db: float | None = None
    float_bytes: int = 0
    stored_bytes: int = 0

    @property
    def is_float(self) -> bool:
        return self.form == "float"

    @property
    def sensitivity_db(self) -> float | None:
        """What layers are ranked by, the lowest first: that of it alone where it is known, else after all before."""
        return self.sqnr_db if self.alone_sqnr_db is None else self.alone_sqnr_db


@dataclass(frozen=True, slots=True)
class ValueFinding:
    """One computed value (or input) that was quantized.

    Attributes:
        name: of the value.
        node: name of the node that computes it; "" for an input.
        form: the integer type.
        scale, zero_point: of its encoding.
        low, high: the smallest and largest number that the integers can stand for.
        seen_low, seen_high: the smallest and largest number in calibration.
        clipped: share of the numbers seen that lie outside and are clipped, 0 to 1.
        edges, counts: a histogram of the numbers seen, coarse enough to be drawn; one edge more than counts.
    """

    name: str
    node: str
    form: str
    scale: float
    zero_point: int
    low: float
    high: float
    seen_low: float
    seen_high: float
    clipped: float
    edges: Sequence[float] = ()
    counts: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Metric:
    """The task's own measure of quality, larger is better.

    Attributes:
        name: of the function that measures it.
        before, after: of the float and of the quantized model.
        allowed_drop: what was allowed to be lost; None where nothing was said.
    """

    name: str
    before: float
    after: float
    allowed_drop: float | None = None

    @property
    def drop(self) -> float:
        return self.before - self.after


@dataclass(frozen=True, slots=True)
class Report:
    """All of it.

    Attributes:
        model, output: names of the files before and after.
        size_before, size_after: of the files, with weights beside them, in bytes.
        settings: what was asked for, as words, in order (scheme, algorithm …).
        samples: how many calibration brought; 0 where the scheme needs none.
        is_calibrated: whether the scheme needs data.
        layers: in the order of the graph.
        values: in the order of the graph.
        metric: None where no function for one was given.
        notes: further sentences of those who quantized.
    """

    model: str
    output: str
    size_before: int
    size_after: int
    settings: Mapping[str, str] = field(default_factory=dict)
    samples: int = 0
    is_calibrated: bool = True
    layers: Sequence[LayerFinding] = ()
    values: Sequence[ValueFinding] = ()
    metric: Metric | None = None
    notes: Sequence[str] = ()

    @property
    def quantized(self) -> list[LayerFinding]:
        """The layers that became integers."""
        return [layer for layer in self.layers if not layer.is_float]

    @property
    def most_sensitive(self) -> list[LayerFinding]:
        """Quantized layers that were measured, the one that suffers most first.

        Those that were measured alone come before all others: the two figures do not compare.
        """
        measured = [layer for layer in self.quantized if layer.sensitivity_db is not None]
        return sorted(measured, key=lambda layer: (layer.alone_sqnr_db is None, layer.sensitivity_db or 0.0))
