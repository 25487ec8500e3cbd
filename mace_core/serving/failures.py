"""What goes wrong with a request, as both protocols tell it."""

from __future__ import annotations

import enum

from mace_core.errors import CancelledError, DeadlineError, MaceError, QueueFullError, UsageError


class Fault(enum.Enum):
    """A kind of failure: the status of HTTP, and the name of gRPC's code."""

    BAD_REQUEST = (400, "INVALID_ARGUMENT")
    NO_TOKEN = (401, "UNAUTHENTICATED")
    NOT_FOUND = (404, "NOT_FOUND")
    TOO_SLOW = (408, "DEADLINE_EXCEEDED")
    TOO_LARGE = (413, "RESOURCE_EXHAUSTED")
    WRONG_MEDIA = (415, "INVALID_ARGUMENT")
    CANCELLED = (499, "CANCELLED")
    FAILED = (500, "INTERNAL")
    BUSY = (503, "UNAVAILABLE")
    DEADLINE = (504, "DEADLINE_EXCEEDED")

    @property
    def status(self) -> int:
        """Of HTTP."""
        return self.value[0]

    @property
    def code(self) -> str:
        """Of gRPC."""
        return self.value[1]


RETRY_AFTER = "1"
"""Seconds after which a client may try again where the server was busy."""


class ServingError(MaceError):
    """A request that the server answers with an error."""

    def __init__(self, fault: Fault, message: str) -> None:
        super().__init__(message)
        self.fault = fault


class ClientGoneError(Exception):
    """The client closed the connection before its request was answered; nobody is there to be answered."""


def bad_request(message: str) -> ServingError:
    """The request itself is wrong."""
    return ServingError(Fault.BAD_REQUEST, message)


def fault_of(error: BaseException) -> tuple[Fault, str]:
    """What to answer for an error; what is not meant for a client is not told."""
    if isinstance(error, ServingError):
        return error.fault, str(error)
    if isinstance(error, QueueFullError):
        return Fault.BUSY, "the queue is full; try again later"
    if isinstance(error, DeadlineError):
        return Fault.DEADLINE, str(error)
    if isinstance(error, CancelledError):
        return Fault.CANCELLED, str(error)
    if isinstance(error, UsageError):
        return Fault.BAD_REQUEST, str(error)
    if isinstance(error, MaceError):
        return Fault.FAILED, str(error)
    if isinstance(error, MemoryError):
        return Fault.FAILED, "there is not enough memory for this request"
    return Fault.FAILED, f"the server failed ({type(error).__name__}); its log tells more"
