"""Counts what a provider hands out and what comes back."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from mace_core.provider import Allocator, Backend, Buffer, CompiledSubgraph, Execution


@dataclass
class Ledger:
    """The buffers that allocators of one class handed out while they were watched.

    Attributes:
        allocated: how many there were.
        outstanding: those that nobody gave back, by identity.
        twice: those given back more than once, or to an allocator that had not made them.
    """

    allocated: int = 0
    outstanding: dict[int, Buffer] = field(default_factory=dict)
    twice: list[Buffer] = field(default_factory=list)


@contextmanager
def watched(kind: type[Allocator]) -> Iterator[Ledger]:
    """Keep a ledger of every allocator of this class until the block ends."""
    ledger = Ledger()
    allocate, free = kind.allocate, kind.free

    def counted(self: Allocator, nbytes: int) -> Buffer:
        buffer = allocate(self, nbytes)
        ledger.allocated += 1
        ledger.outstanding[id(buffer)] = buffer
        return buffer

    def returned(self: Allocator, buffer: Buffer) -> None:
        if ledger.outstanding.pop(id(buffer), None) is None:
            ledger.twice.append(buffer)
        free(self, buffer)

    own = {name: vars(kind)[name] for name in ("allocate", "free") if name in vars(kind)}
    kind.allocate, kind.free = counted, returned  # type: ignore[method-assign]
    try:
        yield ledger
    finally:
        for name in ("allocate", "free"):
            if name in own:
                setattr(kind, name, own[name])
            else:
                delattr(kind, name)


def live_objects() -> Counter[str]:
    """How many objects of the contract are alive in this process, by class."""
    gc.collect()
    counts: Counter[str] = Counter()
    # by class first: there are millions of objects, and asking an abstract class about each takes seconds
    for kind, count in Counter(map(type, gc.get_objects())).items():
        if issubclass(kind, Backend | CompiledSubgraph | Execution):
            counts[kind.__qualname__] += count
    return counts
