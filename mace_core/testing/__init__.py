"""The conformance kit: what a vendor runs to prove a provider, and seeded models to try it on.

A vendor's test file declares what the provider claims and inherits the checks::

    from mace_core.testing import Declaration, ProviderConformance

    class TestAcme(ProviderConformance):
        declaration = Declaration(provider="acme", device="sim0", operators={"Add": ["float32"]})

Needs pytest and hypothesis (``pip install mace-core[testing]``).  Nothing here is imported by the rest of the core.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mace_core.testing.declaration import Declaration

if TYPE_CHECKING:
    from mace_core.testing.conformance import ProviderConformance

__all__ = ["Declaration", "ProviderConformance"]


def __getattr__(name: str) -> Any:
    # Resolved on first use: the models beside it are of use without pytest.
    if name == "ProviderConformance":
        from mace_core.testing.conformance import ProviderConformance

        return ProviderConformance
    raise AttributeError(f"module 'mace_core.testing' has no attribute '{name}'")
