"""What a provider is handed for one step: memory it asks for, a recorder of its spans, bytes from another place."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from numbers import Integral
from typing import Any

import numpy.typing as npt

from mace_core.errors import InputError, ProviderBugError
from mace_core.provider import Bindings, BoundTensor
from mace_core.scheduler.planning.plan import ControlStep, Register, RunStep, Storage
from mace_core.scheduler.profile import Profile
from mace_core.tensor import DType, TensorType


def unbound_output(
    step: RunStep, registers: Sequence[Register], index: int, dtype: DType, shape: tuple[int, ...]
) -> int:
    """The register of an output that a provider asks memory for.

    Raises:
        ValueError: if there is none, or its type is none; the provider, which made the call, gets the error.
    """
    # to ask for `Integral` takes a microsecond, and most numbers are ordinary ones
    is_number = type(index) is int or (isinstance(index, Integral) and not isinstance(index, bool))
    if not is_number or not 0 <= index < len(step.outputs):
        raise ValueError(f"allocate_output was given output {index!r} of {len(step.outputs)}")
    register = registers[step.outputs[index]]
    if register.storage is not Storage.DYNAMIC:
        raise ValueError(f"allocate_output was given output {index}, which is bound already")
    if not isinstance(dtype, DType) or not all((type(d) is int or isinstance(d, Integral)) and d >= 0 for d in shape):
        raise ValueError(f"allocate_output was given {dtype!r} and {shape!r}, which is not a type of a tensor")
    if isinstance(register.type, TensorType) and register.type.dtype is not dtype:
        raise ValueError(f"allocate_output was given {dtype.label} for an output of {register.type.dtype.label}")
    return step.outputs[index]


@contextlib.contextmanager
def profiled(bindings: Bindings, profile: Profile, step: RunStep) -> Iterator[None]:
    """Let the provider report its spans; where it reports none, the whole step is one."""
    sources = step.compiled.source_map
    record, told = profile.recorder(step.device, sources), False

    def report(name: str, source: tuple[str, ...], start_ns: int, end_ns: int) -> None:
        nonlocal told
        told = True
        record(name, source, start_ns, end_ns)

    start_ns = time.perf_counter_ns()
    bindings.profile, bindings.profile_part = report, profile.part_recorder(step.device, sources)
    try:
        yield
    finally:
        bindings.profile = bindings.profile_part = None
    end_ns = time.perf_counter_ns()
    step.measured_ns = min(end_ns - start_ns, step.measured_ns or end_ns - start_ns)
    if not told:
        record(step.name, step.source, start_ns, end_ns)


def profiled_if(profile: Profile | None, bindings: Bindings, step: RunStep) -> contextlib.AbstractContextManager[None]:
    """As `profiled`, where there is a profile."""
    return contextlib.nullcontext() if profile is None else profiled(bindings, profile, step)


def copy_bytes(source: BoundTensor, target: BoundTensor, nbytes: int) -> None:
    """Host-addressable memory to host-addressable memory."""
    read, write = source.buffer.host_bytes(), target.buffer.host_bytes()
    write[target.offset : target.offset + nbytes] = read[source.offset : source.offset + nbytes]


def unplanned_shape(
    step: ControlStep, register: Register, found: tuple[int, ...], planned: tuple[int, ...]
) -> ProviderBugError:
    """The error for control flow whose result has another shape than was planned."""
    return ProviderBugError(
        f"node '{step.node.name}' ({step.node.op_type}) computed shape {list(found)} for "
        f"'{register.value.name}'; {list(planned)} was planned",
        node=step.node.name,
    )


def unfit(model: str, name: str, target: npt.NDArray[Any], found: str) -> InputError:
    """The error for an output that does not fit into the array that the caller gave for it."""
    return InputError(
        f"{model}: output '{name}' is {found} for these inputs, and the array for it is "
        f"{target.dtype}{list(target.shape)}; give one that fits"
    )
