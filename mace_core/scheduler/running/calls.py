"""Running what a provider compiled."""

from __future__ import annotations

from mace_core.provider import Bindings, Execution
from mace_core.provider.border import PASSED_ON, defect


def run_execution(execution: Execution, bindings: Bindings, device: str) -> None:
    """Run; whatever the provider raises outside the contract becomes a `ProviderBugError`.

    Raises:
        MaceError: what the provider raises within the contract.
        ProviderBugError: for anything else but exhausted memory and Ctrl-C.
    """
    try:
        execution.run(bindings)
    except PASSED_ON:
        raise
    except BaseException as error:
        raise defect(error, device) from error
