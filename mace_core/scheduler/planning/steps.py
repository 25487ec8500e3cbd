"""Registers and steps: what a plan is made of.

A register is a value at a location ("host", or a device with memory of its own).  Steps run subgraphs, move bytes, or
run control flow; they refer to registers by number.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from mace_core.graph import Node, Value
from mace_core.provider import CompiledSubgraph
from mace_core.scheduler.host.control_flow import ControlFlow
from mace_core.tensor import DType, Tensor, ValueType

HOST = "host"

Shape: TypeAlias = "tuple[int, ...]"


class Storage(enum.Enum):
    """Where a register's memory comes from."""

    INPUT = "input"  # bound to what is fed
    CONSTANT = "constant"  # the same bytes in every run
    ARENA = "arena"  # a place in the location's arena
    FRESH = "fresh"  # a new array per run: it outlives the run, or Python code looks at it
    DYNAMIC = "dynamic"  # made during the run: its shape is known only then, or control flow returns it
    OBJECT = "object"  # a Python object
    SHARED = "shared"  # pinned memory of a device, seen from the host
    SIZES = "sizes"  # integers that follow from the sizes of the run
    GROWN = "grown"  # in the memory of what is fed to the register ``base``


@dataclass(slots=True, eq=False)
class Register:
    """A value at a location; ``shape`` is None where only the run tells.  ``base`` is the device's register of a
    shared one, and the input of one that grows in place."""

    value: Value
    location: str
    storage: Storage
    type: ValueType | None
    dtype: DType
    shape: tuple[int, ...] | None
    constant: Tensor | None = None
    first: int = 0
    last: int = 0
    offset: int = 0
    base: int = -1

    @property
    def nbytes(self) -> int:
        size = 1
        for dim in self.shape or ():
            size *= dim
        return self.dtype.nbytes(size)


@dataclass(slots=True, eq=False)
class RunStep:
    """Run a compiled subgraph; ``touches_host`` where it reads or writes memory that the host, or another device, works
    on too, or Python objects; ``writes_over`` where it writes over what it is fed, which its workspace, needed until
    the run has ended then, helps to put back."""

    device: str
    location: str
    compiled: CompiledSubgraph
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    name: str
    source: tuple[str, ...]
    workspace_bytes: int
    touches_host: bool
    workspace_offset: int = 0
    nodes: tuple[Node, ...] = ()
    writes_over: bool = False
    measured_ns: int = 0


@dataclass(slots=True, eq=False)
class UploadStep:
    """Copy host -> device."""

    device: str
    source: int
    target: int


@dataclass(slots=True, eq=False)
class DownloadStep:
    """Copy device -> host."""

    device: str
    source: int
    target: int


@dataclass(slots=True, eq=False)
class PadStep:
    """Copy on the host into a register of a larger shape, whose other positions are copies of the last one."""

    source: int
    target: int


@dataclass(slots=True, eq=False)
class CutStep:
    """Copy on the host the first positions of a register into one of a smaller shape."""

    source: int
    target: int


@dataclass(slots=True, eq=False)
class ControlStep:
    """Run If, Loop, Scan or SequenceMap."""

    node: Node
    control: ControlFlow
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


Step = RunStep | UploadStep | DownloadStep | PadStep | CutStep | ControlStep


def reads(step: Step) -> Sequence[int]:
    """The registers that a step reads."""
    return step.inputs if isinstance(step, RunStep | ControlStep) else (step.source,)


def writes(step: Step) -> Sequence[int]:
    """The registers that a step writes."""
    return step.outputs if isinstance(step, RunStep | ControlStep) else (step.target,)


def owner(index: int, registers: Sequence[Register]) -> int:
    """The register whose memory the one at ``index`` is."""
    register = registers[index]
    return register.base if register.storage is Storage.SHARED else index
