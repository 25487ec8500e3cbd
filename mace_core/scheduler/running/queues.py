"""The queues of the devices that work for one request, and waiting for what is in them."""

from __future__ import annotations

import logging

from mace_core.errors import MaceError
from mace_core.provider import Event, Stream
from mace_core.provider.border import calling
from mace_core.scheduler.planning.plan import StagePlan
from mace_core.tensor import MemoryKind

_log = logging.getLogger("mace")


class Queues:
    """A stream for each device of a plan that has queues, and the last events in it; used by one thread at a time."""

    def __init__(self, plan: StagePlan) -> None:
        self.plan = plan
        self._streams: dict[str, Stream] = {}
        self._host_queues: list[str] = []
        self._pending: dict[str, list[Event]] = {}

    def _open_queues(self) -> None:
        for name, device in self.plan.devices.items():
            stream = device.stream()
            if stream is not None:
                self._streams[name] = stream
                if device.memory is not MemoryKind.DEVICE:
                    self._host_queues.append(name)

    def _wait(self, device: str) -> None:
        """Until what was queued on ``device`` is done."""
        pending = self._pending.get(device)
        while pending:
            with self._calling(device, "Event.wait"):
                pending[0].wait()
            pending.pop(0)

    def _calling(self, device: str, call: str) -> calling:
        return self.plan.devices[device].calling(call)

    def _settle(self) -> None:
        """After a failure: nothing may still be running on memory that is about to be given up."""
        for name, stream in self._streams.items():
            try:
                with self._calling(name, "Stream.synchronize"):
                    stream.synchronize()
            except MaceError as error:
                _log.info("%s; it was work of a run that is given up", error)
        self._pending.clear()

    def _wait_for_host_memory(self, *, but: str = "") -> None:
        """Until no queue works on host memory any more, but for that of a device whose own order takes care."""
        for name in self._host_queues:
            if name != but:
                self._wait(name)

    def _wait_all(self) -> None:
        for device in self._pending:
            self._wait(device)
