"""The example accelerator with faults: every kind of error of the contract, and calls that hang for a while."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence

from acme_npu.backend import AcmeBackend, AcmeExecution, AcmeSubgraph
from acme_npu.memory import DEFAULT_MEMORY_BYTES
from acme_npu.program import assemble
from acme_npu.provider import AcmeProvider

from mace_core.errors import (
    DeviceLostError,
    OutOfMemoryError,
    OutOfRangeError,
    ProviderError,
    TransientError,
    UnsupportedError,
)
from mace_core.graph import GraphView
from mace_core.provider import Bindings, CompiledSubgraph, Device, Execution

KINDS: Sequence[type[Exception]] = (
    TransientError,
    TransientError,
    TransientError,
    ProviderError,
    ProviderError,
    OutOfRangeError,
    UnsupportedError,
    OutOfMemoryError,
    RuntimeError,
    DeviceLostError,
)


class Faults:
    """How often something goes wrong, and what has.

    Attributes:
        happened: how often each.
    """

    def __init__(self, rate: float, seed: int, hang_seconds: float, hang_every: float) -> None:
        """
        Args:
            rate: of runs that fail.
            seed: of the drawing.
            hang_seconds: so long a compilation hangs, once in ``hang_every`` seconds.
        """
        self.happened: Counter[str] = Counter()
        self._rate = rate
        self._random = random.Random(seed)
        self._hang_seconds, self._hang_every = hang_seconds, hang_every
        self._next_hang = time.monotonic() + hang_every
        self._lock = threading.Lock()
        self.ended = threading.Event()

    def before_run(self) -> None:
        """Raise an error, sometimes."""
        with self._lock:
            if self._random.random() >= self._rate:
                return
            kind = self._random.choice(KINDS)
            self.happened[kind.__name__] += 1
        raise kind("injected by the soak")

    def before_compile(self) -> None:
        """Hang, sometimes."""
        with self._lock:
            if time.monotonic() < self._next_hang:
                return
            self._next_hang = time.monotonic() + self._hang_every
            self.happened["hang"] += 1
        self.ended.wait(self._hang_seconds)


def faulty(faults: Faults) -> type[AcmeProvider]:
    """The provider with ``faults``, to be registered in the place of the real one."""

    class FaultyExecution(AcmeExecution):
        def run(self, bindings: Bindings) -> None:
            faults.before_run()
            super().run(bindings)

    class FaultySubgraph(AcmeSubgraph):
        def new_execution(self) -> Execution:
            return FaultyExecution(self)

    class FaultyBackend(AcmeBackend):
        def compile(self, subgraphs: Sequence[GraphView]) -> list[CompiledSubgraph]:
            faults.before_compile()
            return [FaultySubgraph(assemble(view), self.memory) for view in subgraphs]

        def serialize(self, compiled: Sequence[CompiledSubgraph]) -> None:  # type: ignore[override]
            return None  # each process compiles, and may hang

    class FaultyProvider(AcmeProvider):
        def open(self, device: Device, options: Mapping[str, object]) -> AcmeBackend:
            return FaultyBackend(device, DEFAULT_MEMORY_BYTES)

    return FaultyProvider
