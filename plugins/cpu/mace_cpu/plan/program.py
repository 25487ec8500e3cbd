"""A lowered subgraph for another processor, or for a library: nothing of it is run here."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mace_core.errors import UnsupportedError
from mace_core.native.program import (
    CONSTANT_SLOT,
    Bytes,
    NativeProgram,
    ProgramFault,
    ProgramStep,
    SizedConstant,
    Words,
)
from mace_core.native.target import Target
from mace_core.provider.backend import CompiledSubgraph
from mace_core.provider.execution import Execution
from mace_cpu.plan.assembly import Assembly


class ForeignSubgraph(CompiledSubgraph):
    """What can be written into a library, and cannot run in this process."""

    def __init__(self, assembly: Assembly, kernels: Mapping[str, bytes], target: Target, name: str) -> None:
        self._assembly = assembly
        self._kernels = kernels
        self._target = target
        self._name = name
        self.source_map = {step.name: step.source for step in assembly.steps}
        self.notes = assembly.notes
        self.workspace_bytes = assembly.workspace_bytes

    def new_execution(self) -> Execution:
        raise UnsupportedError(
            f"this was compiled for the target '{self._name}', to be written into a library (`mace compile --target`), "
            "and is not run here; leave the cpu option 'target' out"
        )

    def program(self) -> NativeProgram:
        """The subgraph as plain data."""
        assembly = self._assembly
        places = assembly.constants.block_places
        if places is None:
            raise UnsupportedError("a subgraph that was restored is not written into a library")
        relocations: Words = assembly.relocations.copy()
        is_constant = relocations[:, 1] == CONSTANT_SLOT
        relocations[is_constant, 2] = places[is_constant, 1]
        constant_of = np.where(is_constant, places[:, 0] + 1, -1)
        return NativeProgram(
            self._target,
            {symbol: self._kernels[symbol] for symbol in sorted(assembly.symbols)},
            [ProgramStep(*step) for step in assembly.steps],
            assembly.words,
            assembly.calls,
            relocations,
            [_block(assembly), *(array.data for array in assembly.constants.weights)],
            constant_of,
            assembly.workspace_bytes,
            assembly.inputs,
            assembly.outputs,
            [ProgramFault(*fault) for fault in assembly.faults],
            assembly.dim_words,
            assembly.sizes,
            [SizedConstant(*place) for place in assembly.constants.sized_places],
            [assembly.outputs[each.output] for each in assembly.sized_by_run],
        )


def _block(assembly: Assembly) -> Bytes:
    """The small constants, as one."""
    parts = assembly.constants.parts
    block = np.zeros(max((offset + data.size for offset, data in parts), default=0), np.uint8)
    for offset, data in parts:
        block[offset : offset + data.size] = data
    return block
