"""Every operator in every form: attributes, optional inputs, opsets, types, shapes; and with whatever may follow it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mace_core.provider import Backend
from mace_core.testing.forms import operator_forms
from mace_core.testing.kit.base import KitBase
from mace_core.testing.kit.neighbors import neighbors_of
from mace_core.testing.kit.trial import Trial, judged, trial_of
from mace_core.testing.kit_names import TALLY
from mace_core.testing.quantized import quantized_clusters

Tier = str | None
"""What the plugin asks for: "each alone" or "combined", which is the slower one."""

Record = Callable[[str, object], None]


class FormChecks(KitBase):
    """Forms may be declined, with a reason; what is claimed must be right."""

    def test_every_form_of_an_operator_is_right_or_declined(
        self, backend: Backend, form_operator: str, tier: Tier, record_property: Record
    ) -> None:
        trials = [trial_of(case, self.declaration) for case in operator_forms()[form_operator]]
        self.settle(backend, of_tier(trials, tier), form_operator, record_property)

    def test_a_result_is_right_whoever_reads_it(
        self, backend: Backend, neighbor_operator: str, tier: Tier, record_property: Record
    ) -> None:
        """Results that are read twice, by the same node, by several, or outside the subgraph as well: what fuses an
        operator with the one that follows may not forget the others."""
        trials = neighbors_of(backend, neighbor_operator, self.declaration)
        self.settle(backend, of_tier(trials, tier), neighbor_operator, record_property)

    def test_quantized_clusters_are_right_or_declined(
        self, backend: Backend, cluster_operator: str, tier: Tier, record_property: Record
    ) -> None:
        """Operators between DequantizeLinear and QuantizeLinear, per tensor and per channel."""
        self.settle(backend, of_tier(quantized_clusters()[cluster_operator], tier), cluster_operator, record_property)

    def settle(self, backend: Backend, trials: Sequence[Trial], operator: str, record: Record) -> None:
        """Try them, tell what was counted, and fail where something is wrong."""
        outcome = judged(backend, trials, self.declaration)
        record(TALLY, {"provider": self.declaration.device_name, "operator": operator, **outcome.counts})
        assert not outcome.faults, outcome.report()


def of_tier(trials: Sequence[Trial], tier: Tier) -> Sequence[Trial]:
    """Those that have one thing particular about them, those that have several, or all (None)."""
    if tier is None:
        return trials
    return [trial for trial in trials if trial.is_combined == (tier == "combined")]
