"""One inference as both protocols have it: what is asked for, and what comes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mace_core.serving.failures import bad_request

LOWEST_PRIORITY = 1 << 31
"""Of those that a client may state; a request that states none comes after it."""


LONGEST_ID = 128
"""Characters of a sequence's identity."""


@dataclass(frozen=True, slots=True)
class SequencePart:
    """Which sequence of requests one belongs to: a whole number or a text, and whether it is its first or last one."""

    id: int | str
    starts: bool = False
    ends: bool = False


@dataclass(frozen=True, slots=True)
class InferRequest:
    """What a client asks for.

    Attributes:
        id: what the answer is to be called; "": nothing.
        feeds: input name -> tensor.
        outputs: output name -> whether it is wanted as binary data, in the order of the answer; None: all.
        is_binary: whether outputs that are not named are wanted as binary data.
        priority: as `Session.run_async` has it.
        deadline: seconds; None: no limit.
        sequence: that it belongs to; None: to none.
    """

    id: str
    feeds: Mapping[str, Any]
    outputs: Mapping[str, bool] | None = None
    is_binary: bool = False
    priority: int = 0
    deadline: float | None = None
    sequence: SequencePart | None = None

    @property
    def names(self) -> list[str] | None:
        """Of the outputs that are wanted; None: all."""
        return None if self.outputs is None else list(self.outputs)


@dataclass(frozen=True, slots=True)
class InferAnswer:
    """What came of it.

    Attributes:
        outputs: output name -> tensor.
    """

    model: str
    version: str
    request: InferRequest
    outputs: Mapping[str, Any] = field(default_factory=dict)


def urgency(parameters: Mapping[str, Any]) -> tuple[int, float | None]:
    """Priority and deadline of a request.

    In the protocol 1 is the highest priority and 0 stands for none; a ``timeout`` is in microseconds, and 0 for none.

    Raises:
        ServingError: if they are no such numbers.
    """
    priority = _whole(parameters, "priority", LOWEST_PRIORITY)
    timeout = _whole(parameters, "timeout", (1 << 63) - 1)
    return (1 + LOWEST_PRIORITY - priority if priority else 0), (timeout / 1e6 if timeout else None)


def sequence_of(parameters: Mapping[str, Any]) -> SequencePart | None:
    """The sequence that a request belongs to; 0 and "" stand for none.

    Raises:
        ServingError: if a parameter is of another type than the protocol says, or speaks of no sequence.
    """
    identity = parameters.get("sequence_id", 0)
    if type(identity) not in (int, str) or (isinstance(identity, int) and not 0 <= identity < 1 << 64):
        raise bad_request("the parameter 'sequence_id' must be a whole number that is not negative, or a string")
    if isinstance(identity, str) and len(identity) > LONGEST_ID:
        raise bad_request(f"the parameter 'sequence_id' has more than {LONGEST_ID} characters")
    starts, ends = (parameters.get(name, False) for name in ("sequence_start", "sequence_end"))
    if type(starts) is not bool or type(ends) is not bool:
        raise bad_request("the parameters 'sequence_start' and 'sequence_end' must be true or false")
    if not identity:
        if starts or ends:
            raise bad_request("'sequence_start' and 'sequence_end' need a 'sequence_id'")
        return None
    return SequencePart(identity, starts, ends)


def _whole(parameters: Mapping[str, Any], name: str, most: int) -> int:
    found = parameters.get(name, 0)
    if isinstance(found, str) and found.isdecimal() and len(found) < 20:  # as some clients send them
        found = int(found)
    if type(found) is not int or not 0 <= found <= most:
        raise bad_request(f"the parameter '{name}' must be a whole number from 0 to {most}")
    return found


def check_parameters(parameters: Mapping[str, Any], where: str) -> None:
    """Look for what this server does not do.

    Raises:
        ServingError: if it is asked for.
    """
    for name, what in _NOT_DONE.items():
        if parameters.get(name):
            raise bad_request(f"{where}: this server has no {what} ('{name}')")


_NOT_DONE = {
    "shared_memory_region": "shared memory",
    "classification": "classification",
}
