"""A subgraph as the device runs it: kernels as source text, and the list of launches with their arguments."""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy.typing as npt


class Home(enum.Enum):
    """Which buffer a tensor lives in."""

    INPUT = "input"
    OUTPUT = "output"
    CONSTANT = "constant"
    WORKSPACE = "workspace"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tensor starts: ``offset`` bytes into input or output number ``index``, the constants or the workspace."""

    home: Home
    index: int = 0
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Kernel:
    """One kernel: OpenCL C that defines ``name``.  Equal sources are the same kernel.

    Attributes:
        parameters: "p" (a buffer and its offset in elements), "i" (int), "l" (long) or "f" (float), in order.
        local: its work-group size, in three dimensions.
    """

    name: str
    source: str
    parameters: str
    local: tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Pointer:
    """A buffer argument; ``itemsize`` is what its kernel counts offsets in."""

    place: Place
    itemsize: int


@dataclass(frozen=True, slots=True)
class Launch:
    """One kernel call.

    Attributes:
        groups: work-groups in each dimension.
        name: for profiles and messages.
        source: the model's nodes it stands for.
    """

    kernel: Kernel
    arguments: tuple[Pointer | int | float, ...]
    groups: tuple[int, int, int]
    name: str
    source: tuple[str, ...]


@dataclass(slots=True)
class Program:
    """What `mace_opencl.lowering` makes of a view.

    Attributes:
        constants: (offset in the buffer of constants, bytes).
        consumed: names of the constants that are in there in some form.
    """

    launches: list[Launch]
    workspace_bytes: int
    constants: list[tuple[int, npt.NDArray[Any]]]
    constant_bytes: int
    consumed: frozenset[str]
    empty: bool = field(default=False)

    @property
    def kernels(self) -> list[Kernel]:
        """Each kernel once, in order of first use."""
        return list(dict.fromkeys(launch.kernel for launch in self.launches))


def source_of(programs: Sequence[Program]) -> str:
    """One translation unit for all of ``programs``."""
    kernels = dict.fromkeys(kernel for program in programs for kernel in program.kernels)
    return "\n".join(kernel.source for kernel in kernels)


UNROLL = "#ifdef UNROLL_LOOPS\n#pragma unroll\n#endif\n"
"""Before a loop of few steps.  GPUs need it; on CPU runtimes it only makes compilation slow."""

_TYPES = {"i": "int", "l": "long", "f": "float"}


def make_kernel(
    hint: str,
    parameters: Sequence[tuple[str, str]],
    body: str,
    local: tuple[int, int, int],
    *,
    helpers: str = "",
) -> Kernel:
    """A kernel around ``body``.

    Args:
        hint: how its name begins.
        parameters: (type, name); the type is ``int``, ``long``, ``float``, or ``<element type>*`` for a buffer read and
            ``<element type>*=`` for one written.  In the body the name is a pointer to the tensor's first element.
        helpers: functions defined before the kernel; ``NAME`` in them becomes a prefix that is unique to the kernel.
    """
    declared, starts, codes = [], [], ""
    for kind, name in parameters:
        if "*" in kind:
            element, _, written = kind.partition("*")
            const = "" if written else "const "
            declared += [f"__global {const}{element} *{name}_base", f"long {name}_offset"]
            starts.append(f"  __global {const}{element} *{name} = {name}_base + {name}_offset;\n")
            codes += "p"
        else:
            declared.append(f"{kind} {name}")
            codes += next(code for code, spelled in _TYPES.items() if spelled == kind)
    text = f"{helpers}({', '.join(declared)}) {{\n{''.join(starts)}{body}}}\n"
    name = f"{hint}_{hashlib.sha256((text + str(local)).encode()).hexdigest()[:12]}"
    size = ", ".join(map(str, local))
    source = (
        f"{helpers.replace('NAME', name)}__kernel __attribute__((reqd_work_group_size({size})))\n"
        f"void {name}({', '.join(declared)}) {{\n{''.join(starts)}{body.replace('NAME', name)}}}\n"
    )
    return Kernel(name, source, codes, local)


def pack_constants(arrays: Sequence[npt.NDArray[Any]]) -> tuple[list[int], int]:
    """Offsets at which ``arrays`` go into one buffer, and its size in bytes."""
    offsets, total = [], 0
    for array in arrays:
        offsets.append(total)
        total += -(-array.nbytes // CONSTANT_ALIGNMENT) * CONSTANT_ALIGNMENT
    return offsets, total


CONSTANT_ALIGNMENT = 128
"""A cache line of the GPUs we know."""
