"""What a comparison of two devices found: of each value how far off it is, and whether that is allowed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from mace_core.numerics.difference import Difference
from mace_core.numerics.noise import NO_FLOOR, Floor
from mace_core.numerics.steps import Steps

Progress = Callable[[str, int, int], None]
"""``(what is done now, how many are done, of how many)``."""


@dataclass(slots=True)
class Layer:
    """One value and how far it is from the reference's.

    Attributes:
        node, op: what computes it; "" for the outputs of a run with nothing split.
        output: its name.
        device: where the node ran.
        shape: element type and shape of the reference's value, as text.
        difference: after everything before it ran on the devices too; None where only the node by itself was run.
        isolated: with the reference's values fed to the node; None where that was not asked for.
        steps: of a quantized value, how many steps it is off by itself: computed from our values before it, not the
            reference's. None where it was not compared so, and where the two cannot be compared.
        failure: why the node could not be run by itself; "" where it could.
        floor: largest absolute differences that rounding explains: of the node by itself, and after all before it.
    """

    node: str
    op: str
    output: str
    device: str
    shape: str
    difference: Difference | None = None
    isolated: Difference | None = None
    steps: Steps | None = None
    failure: str = ""
    floor: Floor = NO_FLOOR


@dataclass(slots=True)
class Validation:
    """What a comparison found.

    Attributes:
        model, devices, against: what was compared with what.
        tolerance: largest error allowed, of the range.
        outputs: the model's outputs, run as it always runs: simplified, fused.
        layers: every value, in the order of the graph, where asked for.
        notes: what the reader has to know about these figures.
        in_steps: the layers are those of a quantized model, and what is judged is each by itself.
    """

    model: str
    devices: str
    against: str
    tolerance: float
    outputs: list[Layer]
    layers: list[Layer] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    verdict: str = ""
    in_steps: bool = False

    def diverges(self, layer: Layer, difference: Difference | None) -> bool:
        """Whether a difference of a value is larger than allowed, and than rounding explains (with a tolerance of 0
        rounding is not an excuse)."""
        if self.in_steps:
            if layer.steps is not None:
                return not layer.steps.is_good
            return difference is layer.isolated and self._is_large(difference)
        return self._is_large(difference) and not self._is_noise(layer, difference)

    def only_noise(self) -> list[Layer]:
        """The values that differ by more than the tolerance, and by no more than rounding explains."""
        return [
            layer
            for layer in (*self.outputs, *self.layers)
            if any(self._is_large(d) and self._is_noise(layer, d) for d in (layer.difference, layer.isolated))
        ]

    def _is_large(self, difference: Difference | None) -> bool:
        return difference is not None and not difference.relative <= self.tolerance

    def _is_noise(self, layer: Layer, difference: Difference | None) -> bool:
        if difference is None or not self.tolerance or not math.isfinite(difference.relative):
            return False
        return difference.max_error <= (layer.floor.own if difference is layer.isolated else layer.floor.total)

    @property
    def first(self) -> Layer | None:
        """The first value, in the order of the graph, that differs by more than allowed."""
        for layer in self.layers:
            if self.diverges(layer, layer.difference if layer.difference is not None else layer.isolated):
                return layer
        return None

    @property
    def is_good(self) -> bool:
        """Whether nothing differs by more than allowed, and every node could be run."""
        return not any(
            layer.failure or self.diverges(layer, layer.difference) or self.diverges(layer, layer.isolated)
            for layer in (*self.outputs, *self.layers)
        )


def described(value: Any) -> str:
    """Element type and shape as text."""
    if hasattr(value, "dtype"):
        return f"{value.dtype}{list(value.shape)}"
    return "absent" if value is None else f"sequence of {len(value)}"
