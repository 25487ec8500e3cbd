"""Whole nodes on an emulated aarch64 processor: what the provider compiles for one is run in this process."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

from mace_testing.emulated_process import ArmProcess

from mace_core.errors import UsageError
from mace_core.native.source import KernelSource
from mace_core.native.target import Target, foreign_target

PREFIX = "emulated-"
EXTRAS = {
    "neon": (),
    "dotprod": ("dotprod",),
    "fp16": ("fullfp16",),
    "fp16fml": ("fp16fml", "fullfp16"),
    "i8mm": ("dotprod", "i8mm"),
    "armv8.6": ("bf16", "dotprod", "fp16fml", "fullfp16", "i8mm"),
}
"""Features beyond the first ARMv8, by the name of the mask."""


@functools.cache
def process(mask: str) -> ArmProcess:
    """The processor with the instruction set of a mask of `host_target`."""
    return ArmProcess(foreign_target("aarch64", features=EXTRAS[mask]))


@contextmanager
def emulated(mask: str) -> Iterator[str]:
    """What the cpu provider's option ``features`` has to be for an emulated processor; inside, plans run on it."""
    here = process(mask)

    def target_of(wanted: str | None) -> Target:
        if wanted != PREFIX + mask:
            raise UsageError(f"the processor emulated here is '{mask}', not '{wanted}'")
        return here.target

    def load(sources: list[KernelSource], target: Target) -> dict[str, int]:
        return here.load(sources)

    def pack(sources: list[KernelSource], target: Target) -> bytes:
        return "\n".join(f"{source.symbol}" for source in sources).encode()

    def unpack(packed: bytes) -> dict[str, int]:
        return here.addresses(packed.decode().split())

    with (
        mock.patch("mace_cpu.shared.precision.host_target", target_of),
        mock.patch("mace_cpu.backend.load_kernels", load),
        mock.patch("mace_cpu.backend.pack_kernels", pack),
        mock.patch("mace_cpu.backend.load_packed", unpack),
        mock.patch("mace_core.native.plan._run_plan", lambda: here.run_plan),
    ):
        yield PREFIX + mask
