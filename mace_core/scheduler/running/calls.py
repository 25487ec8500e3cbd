"""Running what a provider compiled."""

from __future__ import annotations

from collections.abc import Callable

from mace_core.provider import Bindings, Execution, Turns
from mace_core.provider.border import WrongAnswerError, instance_of, told
from mace_core.scheduler.planning.devices import SessionDevice


def run_execution(execution: Execution, bindings: Bindings, device: SessionDevice) -> None:
    """Run; errors name the model, the device and the call.

    Raises:
        MaceError: what the provider raises within the contract.
        OutOfMemoryError: for ``MemoryError``.
        ProviderBugError: for anything else but Ctrl-C.
    """
    try:
        execution.run(bindings)
    except BaseException as error:
        found = told(error, device.name, "Execution.run", device.model)
        if found is error:
            raise
        raise found from error


def run_execution_turns(
    execution: Execution, bindings: Bindings, turns: Turns, device: SessionDevice, is_over: Callable[[], bool]
) -> bool:
    """As `run_execution`, turn by turn; False where the execution cannot.  ``is_over``: whether there is no further
    turn."""
    try:
        ran = instance_of(bool, execution.run_turns(bindings, turns))
        if ran and not is_over():
            raise WrongAnswerError("returned before the turns were over")
    except BaseException as error:
        found = told(error, device.name, "Execution.run_turns", device.model)
        if found is error:
            raise
        raise found from error
    return ran
