"""Memory shared with the HTP, from a stand-in for Qualcomm's rpcmem: registered once, read in place, given back."""

from __future__ import annotations

import ctypes as c
import logging
import mmap
import shutil
import subprocess
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hexagon_support import WIDE, Array, open_backend, perceptron, small_network
from mace_hexagon.provider import NATIVE_ID, _shared_memory
from mace_hexagon.qnn.rpcmem import RpcMemAllocator, SharedBlock
from mace_hexagon.qnn.types import (
    HTP_SHARED_BUFFER,
    MEMORY_CUSTOM,
    MEMORY_HANDLE,
    MEMORY_RAW,
    DataType,
    SharedBuffer,
)

from mace_core.errors import OutOfMemoryError, UsageError
from mace_core.frontend.load import load_model
from mace_core.graph import GraphView
from mace_core.provider import Device, DeviceKind
from mace_core.session import Session
from mace_core.tensor import MemoryKind
from mace_core.testing.models import sample_image
from mace_core.testing.runner import bind, crowded, run_once, view_of

SHAPE = (1, 3, 20, 18)


@pytest.fixture(scope="module")
def rpcmem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stand-in for ``libcdsprpc.so``, built from its source beside this file."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("there is no C compiler to build the stand-in for libcdsprpc.so with")
    library = tmp_path_factory.mktemp("rpcmem") / "librpcmem_stand_in.so"
    source = Path(__file__).with_name("rpcmem_stand_in.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(source)], check=True)
    return library


@pytest.fixture
def blocks(rpcmem: Path) -> Iterator[c.CDLL]:
    """The stand-in's own functions; every block has been given back at the end."""
    library = c.CDLL(str(rpcmem))
    assert library.stand_in_blocks() == 0
    yield library
    library.stand_in_refuse(0)
    assert library.stand_in_blocks() == 0


class RegistryStandIn:
    """A stand-in for ``memRegister`` and what follows from it, which the emulation refuses.

    Tensors of registered memory are read and written through the descriptor, at the offset, of the size that was
    registered, as a DSP would, and not through the address.

    Attributes:
        known: what is registered: (descriptor, offset, bytes).
        registrations: how many there have been.
    """

    def __init__(self, functions: dict[str, Any]) -> None:
        self.known: dict[int, tuple[int, int, int]] = {}
        self.registrations = 0
        self._execute = functions["graphExecute"]
        functions["memRegister"] = self.register
        functions["memDeRegister"] = self.deregister
        functions["graphExecute"] = self.execute

    def register(self, context: Any, descriptor: Any, count: int, handle: Any) -> int:
        found = descriptor._obj
        assert count == 1
        assert context
        assert found.kind == MEMORY_CUSTOM
        assert not found.shape_config
        where = SharedBuffer.from_address(found.custom)
        assert where.kind == HTP_SHARED_BUFFER
        shape = [found.dimensions[index] for index in range(found.rank)]
        nbytes = prod(shape) * DataType(found.data_type).bits // 8
        assert where.offset + nbytes <= where.size
        self.registrations += 1
        self.known[self.registrations] = (where.descriptor, where.offset, nbytes)
        handle._obj.value = self.registrations
        return 0

    def deregister(self, handles: Any, count: int) -> int:
        assert count == 1
        del self.known[handles._obj.value]
        return 0

    def execute(self, graph: Any, inputs: Any, reads: int, outputs: Any, writes: int, *rest: Any) -> int:
        kept: list[tuple[Any, int, c.Array[c.c_char]]] = []
        for tensor in (*inputs[:reads], *outputs[:writes]):
            v1 = tensor.any.v1
            if v1.memory_type == MEMORY_HANDLE:
                handle = v1.buffer.data
                memory = c.create_string_buffer(self._bytes(handle), self.known[handle][2])
                v1.memory_type, v1.buffer.data, v1.buffer.size = MEMORY_RAW, c.addressof(memory), len(memory)
                kept.append((v1, handle, memory))
        code = int(self._execute(graph, inputs, reads, outputs, writes, *rest))
        for v1, handle, memory in kept:
            if v1.kind == 1:
                self._write(handle, memory.raw)
            v1.memory_type, v1.buffer.data, v1.buffer.size = MEMORY_HANDLE, handle, 0
        return code

    def _bytes(self, handle: int) -> bytes:
        descriptor, offset, nbytes = self.known[handle]
        with mmap.mmap(descriptor, 0) as mapped:
            return mapped[offset : offset + nbytes]

    def _write(self, handle: int, content: bytes) -> None:
        descriptor, offset, nbytes = self.known[handle]
        with mmap.mmap(descriptor, 0) as mapped:
            mapped[offset : offset + nbytes] = content


@pytest.fixture
def registry(device: Device, monkeypatch: pytest.MonkeyPatch) -> RegistryStandIn:
    """The library takes shared memory, a stand-in."""
    backend = open_backend(device)
    interface = backend._qnn.interface
    backend.close()
    functions = dict(interface._functions)
    stand_in = RegistryStandIn(functions)
    monkeypatch.setattr(interface, "_functions", functions)
    return stand_in


@pytest.fixture(scope="module")
def view() -> GraphView:
    return view_of(load_model(small_network()), {"x": sample_image(SHAPE)})


FEEDS = {"x": sample_image(SHAPE)}


def expected(device: Device, view: GraphView) -> Array:
    backend = open_backend(device)
    (compiled,) = backend.compile([view])
    found = run_once(backend, view, compiled, FEEDS)["y"]
    compiled.close()
    backend.close()
    return found


def test_buffers_have_an_address_a_descriptor_and_the_devices_name(rpcmem: Path, blocks: c.CDLL) -> None:
    allocator = RpcMemAllocator(rpcmem, "hexagon:htp")
    first, empty = allocator.allocate(1000), allocator.allocate(0)
    assert first.memory is MemoryKind.PINNED
    assert (first.nbytes, empty.nbytes, first.device) == (1000, 0, "hexagon:htp")
    assert isinstance(first.handle, SharedBlock)
    first.host_bytes()[:] = 7
    with mmap.mmap(first.handle.descriptor, 0) as mapped:
        assert mapped[:1000] == b"\7" * 1000
    assert blocks.stand_in_blocks() == 2
    allocator.free(first)
    allocator.free(empty)


@pytest.mark.parametrize("nbytes", [1000, 1 << 31, 1 << 40])
def test_no_memory_is_one_error(rpcmem: Path, blocks: c.CDLL, nbytes: int) -> None:
    blocks.stand_in_refuse(1)
    with pytest.raises(OutOfMemoryError, match=f"shared with hexagon:htp has no {nbytes} bytes left"):
        RpcMemAllocator(rpcmem, "hexagon:htp").allocate(nbytes)


def test_memory_is_registered_once_and_read_where_it_lies(
    device: Device, view: GraphView, rpcmem: Path, blocks: c.CDLL, registry: RegistryStandIn
) -> None:
    right = expected(device, view)
    backend = open_backend(device, shared_memory=str(rpcmem))
    (compiled,) = backend.compile([view])
    bound, execution = bind(backend, view, compiled, FEEDS), compiled.new_execution()
    for _ in range(3):
        bound.fill_outputs(0xAA)
        execution.run(bound.bindings)
        (found,) = bound.outputs()
        np.testing.assert_array_equal(found, right)
    assert registry.registrations == 2
    assert len(registry.known) == 2
    bound.free()
    assert not registry.known
    elsewhere = bind(backend, view, compiled, FEEDS)  # likely at the same addresses: they are registered anew
    execution.run(elsewhere.bindings)
    np.testing.assert_array_equal(elsewhere.outputs()[0], right)
    assert registry.registrations == 4
    execution.close()
    compiled.close()
    assert not registry.known  # the context is gone
    elsewhere.free()
    backend.close()


def test_tensors_in_the_middle_of_a_buffer_are_registered_with_their_offset(
    device: Device, view: GraphView, rpcmem: Path, blocks: c.CDLL, registry: RegistryStandIn
) -> None:
    right = expected(device, view)
    backend = open_backend(device, shared_memory=str(rpcmem))
    (compiled,) = backend.compile([view])
    execution = compiled.new_execution()
    with crowded(backend, view, compiled, FEEDS, is_skewed=False) as bound:
        execution.run(bound.bindings)
        np.testing.assert_array_equal(bound.outputs()[0], right)
        assert not bound.changed()
        assert all(offset > 0 for _, offset, _ in registry.known.values())
    execution.close()
    compiled.close()
    backend.close()


def test_pieces_hand_values_on_in_shared_memory(
    device: Device, rpcmem: Path, blocks: c.CDLL, registry: RegistryStandIn
) -> None:
    feeds = {"x": sample_image(WIDE)}
    wide = view_of(load_model(perceptron()), feeds)  # type: ignore[arg-type]
    plain, shared = open_backend(device, context_mb=1), open_backend(device, context_mb=1, shared_memory=str(rpcmem))
    found = []
    for backend in (plain, shared):
        (compiled,) = backend.compile([wide])
        found.append(run_once(backend, wide, compiled, feeds)["y"])
        compiled.close()
        backend.close()
    np.testing.assert_array_equal(found[0], found[1])
    assert registry.registrations > 4
    assert not registry.known


@pytest.mark.parametrize("is_taken", [True, False], ids=["registered", "refused by the emulation"])
def test_a_session_computes_the_same_in_shared_memory(
    device: Device, rpcmem: Path, blocks: c.CDLL, is_taken: bool, request: pytest.FixtureRequest,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    if is_taken:
        request.getfixturevalue("registry")

    def run(**options: object) -> Array:
        with Session(
            small_network(), devices=["hexagon:v75"], strict=True, options={"hexagon": options}, cache=False
        ) as session:
            first = session.run(FEEDS)["y"]
            np.testing.assert_array_equal(session.run(FEEDS)["y"], first)
            return first

    right = run()
    with caplog.at_level(logging.WARNING, "mace.hexagon"):
        np.testing.assert_array_equal(run(shared_memory=str(rpcmem)), right)
    said = [record.getMessage() for record in caplog.records if "shared memory" in record.getMessage()]
    assert len(said) == (0 if is_taken else 1)  # once, not for each tensor
    for message in said:
        assert "tensors are copied: QNN_COMMON_ERROR_NOT_SUPPORTED" in message


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("/nowhere/libcdsprpc.so", "'shared_memory' does not fit: /nowhere/libcdsprpc.so cannot be loaded"),
        ("libm.so.6", "'shared_memory' does not fit: libm.so.6 is not Qualcomm's rpcmem"),
        (7, "'shared_memory' takes auto, off or a path, not 7"),
        ("a\0b", "'shared_memory' takes auto, off or a path"),
    ],
)
def test_a_library_that_does_not_fit_is_refused(device: Device, given: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        open_backend(device, shared_memory=given)


def test_a_device_without_the_library_copies_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mace_hexagon.qnn.rpcmem.LIBRARY", "libcdsprpc_that_is_not_here.so")
    chip = Device(provider="hexagon", id=NATIVE_ID, kind=DeviceKind.DSP, name="Hexagon HTP", vendor="Qualcomm")
    allocator, (note,) = _shared_memory(chip, "auto")
    assert allocator is None
    assert "inputs and outputs are copied to hexagon:htp: libcdsprpc_that_is_not_here.so cannot be loaded" in note
    assert _shared_memory(chip, "off") == (None, ())


def test_the_emulation_looks_for_none_by_itself(device: Device) -> None:
    assert _shared_memory(device, "auto") == (None, ())
