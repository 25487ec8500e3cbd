"""An open OpenCL device: says what it can run, lowers and builds it, keeps context, memory and queues."""

from __future__ import annotations

import hashlib
import json
import logging
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from mace_core.errors import DeviceLostError, UnsupportedError
from mace_core.graph import GraphView
from mace_core.provider import (
    Allocator,
    Backend,
    Buffer,
    Capability,
    Claim,
    CompiledSubgraph,
    DataTransfer,
    Device,
    ForeignKind,
    ForeignMemory,
    Rejection,
    ShapeSupport,
)
from mace_opencl import api
from mace_opencl.errors import error_for
from mace_opencl.execution import ClSubgraph
from mace_opencl.lowering import lower, why_not
from mace_opencl.memory import DeviceMemory
from mace_opencl.program import Program, source_of
from mace_opencl.stream import ClStream
from mace_opencl.version import VERSION

_log = logging.getLogger("mace.opencl")

_MAGIC = b"mace-opencl 1\n"
_LOG_CHARACTERS = 4000
_SOURCE_ERRORS = frozenset({-11, -43, -45})
"""Codes of a build that speak of the program, not of the device."""


class OpenClBackend(Backend):
    """One device with a context of its own."""

    shape_support = ShapeSupport.STATIC

    def __init__(self, device: Device, options: Mapping[str, Any]) -> None:
        import pyopencl as cl

        # A driver's remarks on kernels that it builds are of no use to those who run models; whoever sets
        # PYOPENCL_COMPILER_OUTPUT sees them all the same.
        warnings.filterwarnings("ignore", "Non-empty compiler output", cl.CompilerWarning)
        self.device = device
        self.api = api.load()
        facts = _find(self.api, device)
        self._key = f"mace-opencl {VERSION}|{facts.platform} {facts.platform_version}|{facts.name}|{facts.driver}"
        try:
            self._cl_device = cl.Device.from_int_ptr(facts.handle)
            self._context: Any = cl.Context([self._cl_device])
            queue = cl.CommandQueue(self._context, self._cl_device)
            largest = int(self._cl_device.max_mem_alloc_size)
            if self._cl_device.host_unified_memory:  # else the driver would copy, too
                self.imports = frozenset({ForeignKind.HOST})
        except cl.Error as error:
            raise error_for(error.code, "opening the device", device=device.qualified_name) from error
        limit = options.get("memory_limit_bytes") or facts.memory_bytes
        self.memory = DeviceMemory(
            self.api, self._context, queue, device.qualified_name, limit_bytes=int(limit), largest=largest
        )
        self._compute_units = facts.compute_units
        self._build_options = _build_options(self._cl_device)

    def capability(self, view: GraphView) -> Capability:
        claims, rejections = [], []
        for node in view.nodes:
            reason = why_not(view, node)
            if reason is None:
                claims.append(Claim((node,)))
            else:
                rejections.append(Rejection(node, reason))
        return Capability(claims, rejections)

    def compile(self, subgraphs: Sequence[GraphView]) -> list[CompiledSubgraph]:
        programs = [lower(view, self._compute_units) for view in subgraphs]
        return self._finish(subgraphs, programs, self._build(source_of(programs)))

    def allocators(self) -> Sequence[Allocator]:
        return (self.memory,)

    def transfer(self) -> DataTransfer:
        return self.memory

    def import_memory(self, memory: ForeignMemory) -> Buffer | None:
        return self.memory.import_host(memory)

    def release_memory(self, buffer: Buffer) -> None:
        self.memory.release(buffer)

    def create_stream(self) -> ClStream:
        return ClStream(self.api, self._context, self._cl_device, self.device.qualified_name)

    # --- stored programs ------------------------------------------------------------------------------------------

    def serialize(self, compiled: Sequence[CompiledSubgraph]) -> bytes | None:
        """The driver's binary of the group's program; lowering is quick and is repeated from the graph."""
        import pyopencl as cl

        members = [item for item in compiled if isinstance(item, ClSubgraph)]
        if not members or any(item.built is not members[0].built for item in members):
            return None
        built = members[0].built
        binary = b""
        if built is not None:
            try:
                binary = built.get_info(cl.program_info.BINARIES)[0]
            except cl.Error as error:
                _log.info("%s gives no program binary: %s", self.device.qualified_name, error)
                return None
        header = {
            "source": _digest(source_of([item.program for item in members]).encode()),
            "binary": _digest(binary),
        }
        return _MAGIC + json.dumps(header).encode() + b"\n" + binary

    def deserialize(self, blob: bytes, subgraphs: Sequence[GraphView]) -> list[CompiledSubgraph]:
        programs = [lower(view, self._compute_units) for view in subgraphs]
        binary = self._checked_binary(blob, source_of(programs))
        return self._finish(subgraphs, programs, self._build_binary(binary) if binary else None)

    def compatibility_key(self) -> str:
        return self._key

    def close(self) -> None:
        self._context = None

    # --- private --------------------------------------------------------------------------------------------------

    def _finish(self, views: Sequence[GraphView], programs: Sequence[Program], built: Any) -> list[CompiledSubgraph]:
        done: list[CompiledSubgraph] = []
        try:
            for view, program in zip(views, programs, strict=True):
                done.append(ClSubgraph(self, view.name, program, built))
        except BaseException:
            for compiled in done:
                compiled.close()
            raise
        return done

    def _build(self, source: str) -> Any:
        """A program from source; None where there is nothing to build."""
        import pyopencl as cl

        if not source:
            return None
        # What is built is kept by the core.  pyopencl would keep it too, and read its files back as pickles whoever has
        # written them; a folder that is gone afterwards leaves it nothing to read.
        with tempfile.TemporaryDirectory(prefix="mace-opencl-") as folder:
            try:
                return cl.Program(self._context, source).build(self._build_options, [self._cl_device], cache_dir=folder)
            except cl.Error as error:
                raise self._build_error(error) from error

    def _build_error(self, error: Any) -> Exception:
        if error.code not in _SOURCE_ERRORS:
            return error_for(error.code, "compiling kernels", device=self.device.qualified_name)
        return UnsupportedError(
            f"the driver of {self.device.qualified_name} cannot compile the kernels: {str(error)[:_LOG_CHARACTERS]}",
            device=self.device.qualified_name,
        )

    def _checked_binary(self, blob: bytes, source: str) -> bytes:
        """The binary in ``blob``; drivers may crash on a damaged one, so every byte is checked."""
        try:
            if not blob.startswith(_MAGIC):
                raise ValueError("it has another format")
            header, _, binary = blob[len(_MAGIC) :].partition(b"\n")
            stated = json.loads(header)
            if stated["source"] != _digest(source.encode()):
                raise ValueError("it was made from other kernels")
            if stated["binary"] != _digest(binary):
                raise ValueError("its bytes are damaged")
        except (ValueError, KeyError, TypeError) as error:
            raise UnsupportedError(
                f"a stored program of {self.device.qualified_name} cannot be used: {error}",
                device=self.device.qualified_name,
            ) from error
        return binary

    def _build_binary(self, binary: bytes) -> Any:
        import pyopencl as cl

        try:
            return cl.Program(self._context, [self._cl_device], [binary]).build(self._build_options, [self._cl_device])
        except cl.Error as error:
            raise UnsupportedError(
                f"the driver of {self.device.qualified_name} refuses a stored program: {error}",
                device=self.device.qualified_name,
            ) from error


def _find(functions: api.OpenCl, device: Device) -> api.DeviceFacts:
    found = api.list_devices(functions)
    index = int(device.id) if device.id.isdigit() else -1
    if not 0 <= index < len(found) or found[index].title != device.name:
        there = ", ".join(f"{i}: {item.title}" for i, item in enumerate(found)) or "none"
        raise DeviceLostError(
            f"{device.qualified_name} ('{device.name}') is not there any more (devices now: {there}); "
            "run `mace devices --refresh`",
            device=device.qualified_name,
        )
    return found[index]


def _build_options(device: Any) -> list[str]:
    """Loops unrolled on GPUs; exact division and square root where the device can."""
    import pyopencl as cl

    options = ["-cl-std=CL1.2"]
    if not int(device.type) & int(cl.device_type.CPU):
        options.append("-DUNROLL_LOOPS")
    if int(device.single_fp_config) & int(cl.device_fp_config.CORRECTLY_ROUNDED_DIVIDE_SQRT):
        options.append("-cl-fp32-correctly-rounded-divide-sqrt")
    return options


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
