"""Python's signal handlers, run from inside native code."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator


class Attention:
    """What the main thread calls from native code so that handlers of signals that came meanwhile run.

    Attributes:
        address: of an ``int64 (void)``; it answers 1 if a handler raised, as Ctrl-C's does, else 0.
    """

    def __init__(self) -> None:
        # The interpreter runs handlers where it begins to execute code, and where a loop turns.  A function would begin
        # outside its own `try`, and what a handler raises there would be printed and lost; a generator goes on inside
        # of it, and this one's loop turns inside of it too.
        looks = self._looks()
        next(looks)
        self._function = ctypes.CFUNCTYPE(ctypes.c_int64)(looks.__next__)
        self.address = ctypes.cast(self._function, ctypes.c_void_p).value or 0
        self._raised: BaseException | None = None

    def take(self) -> BaseException | None:
        """What a handler raised since this was last asked."""
        raised, self._raised = self._raised, None
        return raised

    def _looks(self) -> Iterator[int]:
        answer = 0
        while True:
            try:
                while True:
                    yield answer
                    answer = 0
            except GeneratorExit:
                raise
            except BaseException as raised:
                self._raised = raised
                answer = 1
