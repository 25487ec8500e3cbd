"""A subgraph on its way to a native plan.

Lowerings walk the nodes in order and emit steps here.  A step is a kernel with argument words; where a word is an
address it names a buffer, and the address is filled in when the plan runs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mace_core.graph import GraphView
from mace_core.symbolic import is_symbolic
from mace_core.tensor import DType
from mace_cpu.shared.layouts.words import emit_offsets, emit_words
from mace_cpu.shared.parts.buffers import Buf
from mace_cpu.shared.parts.constants import ConstantPool
from mace_cpu.shared.parts.facts import Facts, Settings
from mace_cpu.shared.parts.steps import Steps
from mace_cpu.shared.parts.views import Offsets
from mace_cpu.shared.program.fusion import Fusion
from mace_cpu.shared.program.values import Values


class Program:
    """One subgraph while it is lowered.

    Attributes:
        settings: what it is compiled for.
        facts: types, shapes, sizes and known contents of its values.
        steps: the kernel calls so far.
        constants: the constants that steps read.
        values: where the values lie in memory.
        fusion: which nodes are computed, and which are left to others.
    """

    def __init__(self, view: GraphView, settings: Settings, outer: Program | None = None) -> None:
        """``outer``: the program that the steps of this one will be part of."""
        self.settings = settings
        self.facts = Facts(view, settings.block)
        self.steps: Steps = Steps(settings.threads, None if outer is None else outer.steps)
        self.constants: ConstantPool = ConstantPool() if outer is None else outer.constants
        self.values = Values(self.facts, self.steps, self.constants, settings.pair_unit)
        self.fusion = Fusion(view, self.steps)

    def table(self, items: Sequence[int]) -> Buf:
        """A table of int64: a constant, or where sizes that are not decided are in it, written at each run."""
        if not any(is_symbolic(item) for item in items):
            return self.constants.put(np.asarray(items, np.int64))
        return emit_words(self.steps, items, DType.INT64)

    def offsets(self, offsets: Offsets) -> Buf:
        """A table of where things start, int64: a constant, or where it depends on sizes, written at each run."""
        if any(is_symbolic(number) for number in (offsets.start, *offsets.shape, *offsets.strides)):
            return emit_offsets(self.steps, offsets)
        return self.constants.put(np.asarray(list(offsets), np.int64))

    def finish(self) -> None:
        """See that every node is computed and that every output of the view lies in the caller's memory."""
        self.fusion.finish()
        self.values.finish()
