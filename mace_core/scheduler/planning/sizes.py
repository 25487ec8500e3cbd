"""What of a stage plan follows from the sizes of a run: shapes, places in the arenas, and whether the plan holds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from mace_core.scheduler.planning.plan import RunStep, StagePlan, Storage
from mace_core.symbolic import SizeProgram, SizeProgramBuilder, Trace, is_symbolic, polynomial_of
from mace_core.symbolic.polynomial import Polynomial
from mace_core.symbolic.program import python_source

Size: TypeAlias = "tuple[bool, int]"
"""A number, or (True) the register that holds one."""


SizedRegister: TypeAlias = "tuple[int, tuple[int, ...], int]"
"""A register of the plan at one run: its number, its shape, and where it is in its arena."""

SizedStep: TypeAlias = "tuple[int, int, int]"
"""The workspace of a step at one run: the number of the step, bytes, and where it is in the arena."""


@dataclass(frozen=True, slots=True, eq=False)
class StageValues:
    """What a stage needs to know for one set of sizes.

    Attributes:
        symbols: the values of the trace's symbols; one object for one set of sizes.
        registers: those whose shape or place depends on them.
        workspaces: of the steps whose workspace depends on them.
        arenas: bytes by location.
        contents: of registers that hold sizes.
    """

    symbols: tuple[int, ...]
    registers: tuple[SizedRegister, ...]
    workspaces: tuple[SizedStep, ...]
    arenas: dict[str, int]
    contents: tuple[tuple[int, npt.NDArray[Any]], ...]


_CONTRARY = {("==", True): "!=", ("==", False): "==", ("<", True): ">=", ("<", False): "<"}
"""By relation and outcome of a guard: what is so where it does not hold."""


class StageSizes:
    """Computes `StageValues`, and says which sizes a plan holds for."""

    def __init__(self, plan: StagePlan, trace: Trace) -> None:
        """The trace ends here."""
        self._builder = SizeProgramBuilder(trace)
        self._trace = trace
        self._registers: list[tuple[int, tuple[Size, ...], Size]] = []
        self._contents: list[tuple[int, tuple[int, ...], tuple[Size, ...], np.dtype[Any]]] = []
        has_runs = any(isinstance(step, RunStep) for step in plan.steps)
        for index, register in enumerate(plan.registers):
            if register.storage is Storage.INPUT and not has_runs:
                continue  # nobody is told its shape
            shape = register.shape or ()
            if register.storage is Storage.SIZES:
                assert register.constant is not None
                items = tuple(self._size(item) for item in register.constant.tolist())
                self._contents.append((index, shape, items, register.dtype.numpy))
            elif any(is_symbolic(dim) for dim in shape) or is_symbolic(register.offset):
                self._registers.append((index, tuple(self._size(dim) for dim in shape), self._size(register.offset)))
        self._workspaces = [
            (number, self._size(step.workspace_bytes), self._size(step.workspace_offset))
            for number, step in enumerate(plan.steps)
            if isinstance(step, RunStep) and (is_symbolic(step.workspace_bytes) or is_symbolic(step.workspace_offset))
        ]
        self._arenas = {location: self._size(arena.total_bytes) for location, arena in plan.arenas.items()}
        self.guards = tuple(trace.conditions())
        checks = [(self._builder.register(g.expression), g.relation, g.outcome) for g in self.guards]
        self.texts = tuple(trace.guard_text(guard) for guard in self.guards)
        self.largest = trace.largest_symbol()
        self._compute = self._compiled(self._builder.finish(), checks)
        trace.close()

    def register(self, expression: Polynomial) -> int:
        """The register of `program` that holds what follows from the symbols."""
        return self._builder.register(expression)

    def program(self) -> SizeProgram:
        """Computes all registers asked for so far, and what the guards look at."""
        self.largest = min(self.largest, self._trace.largest_symbol())
        return self._builder.finish()

    def admit(self, symbols: Sequence[int]) -> StageValues | None:
        """What follows from these values of the symbols; None where a guard says that the plan does not hold."""
        for value in symbols:
            if not -self.largest <= value <= self.largest:
                return None
        try:
            found = self._compute(*symbols)
        except ZeroDivisionError:
            return None
        if found is None:
            return None
        registers, workspaces, arenas, contents = found
        return StageValues(
            tuple(symbols),
            registers,
            workspaces,
            arenas,
            tuple(
                (index, np.array(items, dtype).reshape(shape))
                for (index, shape, _, dtype), items in zip(self._contents, contents, strict=True)
            ),
        )

    def _compiled(self, program: SizeProgram, checks: Sequence[tuple[int, str, bool]]) -> Callable[..., Any]:
        """Python code that answers what `admit` needs, or None as soon as a guard does not hold.

        It is made of numbers and names of registers alone.
        """
        guards: dict[int, list[str]] = {}
        for register, relation, outcome in checks:
            after = max(register, program.symbols - 1)  # as soon as what it looks at is there
            guards.setdefault(after, []).append(f"if r{register} {_CONTRARY[relation, outcome]} 0: return None")
        lines = guards.pop(program.symbols - 1, [])
        for register, line in enumerate(python_source(program), program.symbols):
            lines += [line, *guards.pop(register, ())]
        answers = (
            (f"({i}, {_tuple(map(_text, shape))}, {_text(offset)})" for i, shape, offset in self._registers),
            (f"({step}, {_text(nbytes)}, {_text(offset)})" for step, nbytes, offset in self._workspaces),
            (_tuple(map(_text, items)) for _, _, items, _ in self._contents),
        )
        registers, workspaces, contents = (_tuple(items) for items in answers)
        arenas = "{" + ", ".join(f"{name!r}: {_text(total)}" for name, total in self._arenas.items()) + "}"
        head = f"def compute({', '.join(f'r{i}' for i in range(program.symbols))}):"
        source = "\n    ".join((head, *lines, f"return {registers}, {workspaces}, {arenas}, {contents}"))
        names: dict[str, Any] = {}
        exec(compile(source, "<sizes of a plan>", "exec"), names)
        compute: Callable[..., Any] = names["compute"]
        return compute

    def _size(self, value: int) -> Size:
        return (True, self._builder.register(polynomial_of(value))) if is_symbolic(value) else (False, int(value))


def _text(size: Size) -> str:
    return f"r{size[1]}" if size[0] else str(size[1])


def _tuple(items: Iterable[str]) -> str:
    return "(" + "".join(f"{item}, " for item in items) + ")"
