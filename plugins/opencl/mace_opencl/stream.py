"""In-order queues and the events that tell when what was queued is done."""

from __future__ import annotations

import ctypes
import logging
import threading
from collections.abc import Callable
from typing import Any

from mace_core.provider import Event, Stream
from mace_opencl.api import EVENT_COMMAND_EXECUTION_STATUS, OpenCl
from mace_opencl.errors import code_name, raise_for

_log = logging.getLogger("mace.opencl")


class ClEvent(Event):
    """Completion of one run.  ``then`` is called once, when somebody has waited for it (profiles)."""

    def __init__(
        self, api: OpenCl, handle: int, device: str, what: str, then: Callable[[], None] | None = None
    ) -> None:
        self._api = api
        self._device = device
        self._what = what
        self._then = then
        self._lock = threading.Lock()
        self.handle = handle

    def wait(self) -> None:
        handles = ctypes.c_void_p(self.handle)
        status = self._api.clWaitForEvents(1, ctypes.byref(handles))
        if status < 0:
            own = self._status()
            raise_for(own if own < 0 else status, self._what, device=self._device, running=True)
        with self._lock:
            then, self._then = self._then, None
        if then is not None:
            then()

    @property
    def is_done(self) -> bool:
        return self._status() <= 0

    def _status(self) -> int:
        """0 when done, positive while it is under way, negative after a failure."""
        status = ctypes.c_int32()
        found = self._api.clGetEventInfo(
            self.handle, EVENT_COMMAND_EXECUTION_STATUS, ctypes.sizeof(status), ctypes.byref(status), None
        )
        raise_for(found, "asking for the state of a run", device=self._device, running=True)
        return status.value

    def __del__(self) -> None:
        if self.handle:
            self._api.clReleaseEvent(self.handle)
            self.handle = 0


class ClStream(Stream):
    """One in-order queue; a second one, with time stamps, is made when a run is profiled first."""

    def __init__(self, api: OpenCl, context: Any, device: Any, name: str) -> None:
        import pyopencl as cl

        self._api = api
        self._context = context
        self._device = device
        self._name = name
        self._queue: Any = cl.CommandQueue(context, device)
        self._timed: Any = None

    @property
    def handle(self) -> int:
        """The cl_command_queue.

        Raises:
            TypeError: if it is closed.
        """
        if self._queue is None:
            raise TypeError(f"a closed stream of {self._name} was used")
        return int(self._queue.int_ptr)

    def timed_handle(self) -> int:
        """A queue that records when each command ran; everything queued before is done when this returns."""
        import pyopencl as cl

        self.synchronize()
        if self._timed is None:
            properties = cl.command_queue_properties.PROFILING_ENABLE
            self._timed = cl.CommandQueue(self._context, self._device, properties=properties)
        return int(self._timed.int_ptr)

    def synchronize(self) -> None:
        for queue in (self._queue, self._timed):
            if queue is not None:
                raise_for(self._api.clFinish(queue.int_ptr), "waiting for a queue", device=self._name, running=True)

    def abandon(self) -> None:
        """After an error that is being reported: wait for what is still queued, if the device still answers."""
        for queue in (self._queue, self._timed):
            if queue is not None:
                status = self._api.clFinish(queue.int_ptr)
                if status < 0:
                    _log.info("%s: a queue was given up: %s", self._name, code_name(status))

    def close(self) -> None:
        self._queue = self._timed = None
