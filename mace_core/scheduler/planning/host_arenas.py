"""Memory that the runs of a session work in on the host: as many arenas as there are runs at once, whatever the shapes.

What holds an arena (an instance of a plan) keeps it when its run is over, so that the next run of the same shape finds
all as it was.  If another one needs memory, it is taken from one that no run is using.
"""

from __future__ import annotations

from typing import Any, Protocol

from mace_core.host.fork_safe import fork_safe_lock
from mace_core.provider.memory import Buffer, HostAllocator


class ArenaHolder(Protocol):
    """What a run works with.

    Attributes:
        host_arena: where its arena is; of no bytes where it has none now.
        needed_bytes: what its next run needs.
        needs_arena: whether that is more than there is.
    """

    host_arena: Buffer
    needed_bytes: int
    needs_arena: bool


class HostArenas:
    """The arenas of a session.  But for small ones there are never more than runs were under way at once, and none is
    larger, by more than an eighth, than the largest that one of them needed."""

    def __init__(self, shared_from_bytes: int = 64 << 10) -> None:
        """``shared_from_bytes``: who needs less keeps what it has; stages that run in turn would else take it from each
        other at each run."""
        self._shared_from_bytes = shared_from_bytes
        self._holders: dict[Any, list[Any]] = {}
        self._lock = fork_safe_lock()

    def equip(self, holder: ArenaHolder, idle: list[Any]) -> None:
        """Give an arena, whose content is undefined, to the holder that the calling thread is about to run.

        Args:
            idle: the list in which the holder lies while no run is using it.

        Raises:
            OutOfMemoryError: if there is no room.
        """
        arena = holder.host_arena
        with self._lock:
            had_one = self._holders.pop(holder, None) is not None
            is_small = holder.needed_bytes < self._shared_from_bytes
            found = None if is_small else self._taken(holder.needed_bytes, any_size=not had_one)
        if found is None:
            arena.address, arena.nbytes, arena.handle = 0, 0, None  # freed before the larger one is there
            # a little more than is needed where it was too small before: what grows from run to run grows again
            found = HostAllocator().allocate(holder.needed_bytes + (holder.needed_bytes // 8 if had_one else 0))
        arena.address, arena.nbytes, arena.handle = found.address, found.nbytes, found.handle
        holder.needs_arena = False
        with self._lock:
            self._holders[holder] = idle

    def _taken(self, nbytes: int, *, any_size: bool) -> Buffer | None:
        """The smallest arena that is large enough and that no run is using.  Where there is none, and ``any_size``, the
        smallest is freed: a new one takes its place."""
        large = [one for one in self._holders if one.host_arena.nbytes >= self._shared_from_bytes]
        by_size = sorted(large, key=lambda one: (one.host_arena.nbytes < nbytes, one.host_arena.nbytes))
        for holder in by_size:
            arena = holder.host_arena
            fits = arena.nbytes >= nbytes
            if not fits and not any_size:
                return None
            idle = self._holders[holder]
            try:
                idle.remove(holder)
            except ValueError:  # a run is using it
                continue
            found = Buffer(arena.memory, arena.nbytes, arena.address, arena.handle)
            arena.address, arena.nbytes, arena.handle = 0, 0, None
            holder.needs_arena = True
            del self._holders[holder]
            idle.insert(0, holder)  # those that have one are used first
            return found if fits else None
        return None

    def forget(self, holder: ArenaHolder) -> None:
        """The holder is not used any more."""
        with self._lock:
            self._holders.pop(holder, None)

    @property
    def held_bytes(self) -> list[int]:
        """The sizes of the arenas there are."""
        with self._lock:
            return [holder.host_arena.nbytes for holder in self._holders]
