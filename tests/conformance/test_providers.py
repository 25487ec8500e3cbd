"""The conformance kit over the providers of this repository."""

from __future__ import annotations

from mace_core.testing import Declaration, ProviderConformance


class TestReference(ProviderConformance):
    declaration = Declaration(provider="reference", device="0", tolerance=0)


class TestCpu(ProviderConformance):
    """The cpu provider claims every case of the kit."""

    declaration = Declaration(provider="cpu", device="0", tolerance=1e-6, serializes=True)
