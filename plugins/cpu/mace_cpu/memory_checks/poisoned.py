"""Steps that fill every buffer of the arena with a pattern after its last reader, see `mace_core.provider.poison`."""

from __future__ import annotations

from mace_core.native.numba_kernel import numba_source
from mace_cpu.shared.parts.buffers import Buf
from mace_cpu.shared.parts.steps import Step, words_of
from mace_cpu.shared.program.assemble import lifetimes
from mace_cpu.shared.program.program import Program

NAME = "Poison"


def add_poison(program: Program, byte: int) -> None:
    """Fill each buffer right after the last step that needs it; what outlives all steps stays as it is.

    These steps name the buffers, too, but come before whatever begins to live later: the arena is laid out as without.
    """
    ended: dict[int, list[Buf]] = {}
    for buf, (_, last) in lifetimes(program).items():
        ended.setdefault(last, []).append(buf)
    steps: list[Step] = []
    for index, step in enumerate(program.steps.emitted):
        steps.append(step)
        steps += [_filling(buf, byte) for buf in ended.get(index, ())]
    program.steps.emitted[:] = steps


def _filling(buf: Buf, byte: int) -> Step:
    kernel = numba_source("mace_cpu.memory_checks.kernels", "fill")
    words, addresses = words_of(kernel, {"target": buf, "byte": byte})
    return Step(kernel, words, addresses, extent=buf.nbytes, chunks=1, name=NAME, source=())
