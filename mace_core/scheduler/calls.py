"""Calls into providers, and what an exception outside the contract becomes."""

from __future__ import annotations

from mace_core.errors import MaceError, ProviderBugError
from mace_core.provider import Bindings, Execution


def run_execution(execution: Execution, bindings: Bindings, device: str) -> None:
    """Run; whatever the provider raises outside the contract becomes a `ProviderBugError`.

    Raises:
        MaceError: what the provider raises within the contract.
        ProviderBugError: for anything else but exhausted memory.
    """
    try:
        execution.run(bindings)
    except (MaceError, MemoryError):
        raise
    except Exception as error:
        raise defect(error, device) from error


def defect(error: Exception, device: str) -> ProviderBugError:
    """What an exception outside the contract is: the provider's defect."""
    return ProviderBugError(
        f"{device} failed in a way its provider does not account for ({type(error).__name__}: {error}); "
        "report it to the provider, or run without this device",
        device=device,
    )
