"""The conformance kit over the providers of this repository."""

from __future__ import annotations

from mace_core.testing import Declaration, ProviderConformance


class TestReference(ProviderConformance):
    """The last fallback.  It is the judge of most forms itself, and docs/judges.md tells where it is wrong."""

    declaration = Declaration(provider="reference", device="0", tolerance=1e-6)
    test_every_form_of_an_operator_is_right_or_declined = None  # type: ignore[assignment]
    test_a_result_is_right_whoever_reads_it = None  # type: ignore[assignment]
    test_quantized_clusters_are_right_or_declined = None  # type: ignore[assignment]


class TestCpu(ProviderConformance):
    """The cpu provider claims every case of the kit.

    Its Winograd convolutions add up rounded sums of inputs, which costs a digit (docs/decisions/winograd.md).
    """

    declaration = Declaration(provider="cpu", device="0", tolerance=1e-5, serializes=True)
