"""What a vendor declares about a provider before the kit checks it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from mace_core.provider import Backend
from mace_core.testing.cases import Case


@dataclass(frozen=True)
class Declaration:
    """A provider's promises.

    Attributes:
        provider: the name it is registered under; its distribution must be installed.
        device: the id of the device to test (``sim0``).
        operators: operator -> element types claimed (labels such as "float32").  A case of the kit that uses one of
            these must be claimed, unless ``declines`` names it; a claim on anything else is an undeclared ability.
            None declares every case of the kit.
        declines: case name -> why this case of a declared operator is declined.  If it is claimed after all, the
            declaration is out of date and the check fails.
        tolerance: largest difference to the reference, relative to the largest magnitude of the expected output.
        serializes: whether compiled subgraphs have a stored form.
        streams: whether the backend offers queues.
        interruptible: whether a run stops between steps once it is cancelled.  False for a device that is given a whole
            subgraph in one call and cannot take it back; a run that has not begun must be cancelled all the same.
        options: options to open the device with.
        memory_in_use: bytes of device memory a backend has handed out, for providers that can tell.
    """

    provider: str
    device: str
    operators: Mapping[str, Collection[str]] | None = None
    declines: Mapping[str, str] = field(default_factory=dict)
    tolerance: float = 1e-5
    serializes: bool = False
    streams: bool = False
    interruptible: bool = True
    options: Mapping[str, object] = field(default_factory=dict)
    memory_in_use: Callable[[Backend], int] | None = None

    @property
    def device_name(self) -> str:
        """``provider:id``."""
        return f"{self.provider}:{self.device}"

    def claims(self, case: Case) -> bool:
        """Whether the provider promises to claim ``case``."""
        if case.name in self.declines:
            return False
        return self.operators is None or case.dtype in self.operators.get(case.op_type, ())
