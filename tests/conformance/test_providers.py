"""The conformance kit over the providers of this repository."""

from __future__ import annotations

from mace_core.testing import Declaration, ProviderConformance


class TestReference(ProviderConformance):
    declaration = Declaration(provider="reference", device="0", tolerance=0)


class TestCpu(ProviderConformance):
    """The cpu provider claims every case of the kit.

    Its Winograd convolutions add up rounded sums of inputs, which costs a digit (docs/decisions/winograd.md).
    """

    declaration = Declaration(provider="cpu", device="0", tolerance=1e-5, serializes=True)
