"""Collects launches and decides where every tensor lives: the bindings, the constants, or the workspace."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from mace_core.errors import UnsupportedError
from mace_core.graph import GraphView, Node, Value
from mace_core.provider.arenas import Lifetime, plan_arena
from mace_core.provider.poison import poison_byte
from mace_core.tensor import DType, Tensor
from mace_opencl.kernels.copy import copy_kernel
from mace_opencl.lowering.checks import dtype_of
from mace_opencl.program import CONSTANT_ALIGNMENT, Home, Kernel, Launch, Place, Pointer, Program, pack_constants

MAX_GROUPS = 65535
"""Work-groups along the second and third dimension that GPUs launch at most; the first has no limit that matters."""


@dataclass(slots=True, eq=False)
class Storage:
    """Bytes that hold one tensor, or several that are the same bytes in another shape."""

    nbytes: int
    place: Place | None = None
    first: int = -1
    last: int = -1


@dataclass(frozen=True, slots=True)
class Read:
    """An argument: a tensor that a kernel reads."""

    storage: Storage
    itemsize: int


@dataclass(frozen=True, slots=True)
class Write:
    """An argument: a tensor that a kernel writes."""

    storage: Storage
    itemsize: int


Argument = Read | Write | int | float


@dataclass(slots=True)
class _Draft:
    kernel: Kernel
    arguments: tuple[Argument, ...]
    groups: tuple[int, int, int]
    name: str
    source: tuple[str, ...]


@dataclass(slots=True)
class Builder:
    """Lowers one view; see `emit`."""

    view: GraphView
    compute_units: int = 1
    storages: dict[Value, Storage] = field(default_factory=dict)
    drafts: list[_Draft] = field(default_factory=list)
    arrays: list[npt.NDArray[Any]] = field(default_factory=list)
    array_storages: list[Storage] = field(default_factory=list)
    array_index: dict[tuple[str, tuple[int, ...], bytes], Storage] = field(default_factory=dict)
    consumed: set[str] = field(default_factory=set)
    known: dict[Value, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for index, value in enumerate(self.view.inputs):
            self.storages[value] = Storage(self.nbytes(value), Place(Home.INPUT, index))

    # --- what operators ask -----------------------------------------------------------------------------------------

    def shape(self, value: Value | None) -> tuple[int, ...]:
        assert value is not None
        return self.view.shape(value)

    def size(self, value: Value | None) -> int:
        return math.prod(self.shape(value))

    def dtype(self, value: Value) -> DType:
        return dtype_of(self.view, value)

    def nbytes(self, value: Value) -> int:
        return self.dtype(value).nbytes(self.size(value))

    def constant(self, value: Value | None) -> npt.NDArray[Any] | None:
        """The content of a constant, None for what is computed or left out."""
        tensor = self._tensor(value)
        return None if tensor is None else tensor.numpy()

    def know(self, value: Value, content: Tensor, node: Node) -> None:
        """``value`` is computed by ``node`` from constants alone, now: it is a constant from here on."""
        self.known[value] = content
        self.consumed.update(source.name for source in node.inputs if source is not None)

    def _tensor(self, value: Value | None) -> Tensor | None:
        found = None if value is None else self.known.get(value)
        return self.view.constant(value) if found is None else found

    # --- arguments --------------------------------------------------------------------------------------------------

    def read(self, value: Value | None) -> Read:
        """``value`` as an argument; a constant is put into the device's memory."""
        assert value is not None
        storage = self.storages.get(value)
        if storage is None:
            tensor = self._tensor(value)
            if tensor is not None:
                storage = self._constant_storage(value, tensor)
            else:  # nothing is launched for a result without elements
                assert self.size(value) == 0, f"'{value.name}' is read before it is computed"
                storage = self.storages[value] = Storage(0)
        return Read(storage, self.dtype(value).bits // 8)

    def data(self, array: npt.NDArray[Any]) -> Read:
        """An array made while lowering (packed weights, index tables) as an argument; equal ones are kept once."""
        packed = np.ascontiguousarray(array)
        key = (packed.dtype.str, packed.shape, packed.tobytes()) if packed.nbytes <= _SHARED_BYTES else None
        storage = self.array_index.get(key) if key is not None else None
        if storage is None:
            storage = Storage(packed.nbytes)
            self.arrays.append(packed)
            self.array_storages.append(storage)
            if key is not None:
                self.array_index[key] = storage
        return Read(storage, packed.itemsize)

    def write(self, value: Value | None) -> Write:
        """``value`` as the result of a kernel."""
        assert value is not None
        storage = self.storages.get(value)
        if storage is None:
            storage = self.storages[value] = Storage(self.nbytes(value))
        return Write(storage, self.dtype(value).bits // 8)

    def scratch(self, nbytes: int) -> Storage:
        """Room for an intermediate result; wrap it in `Write` and `Read`."""
        return Storage(nbytes)

    def alias(self, value: Value | None, source: Value | None) -> None:
        """``value`` is the bytes of ``source`` in another shape."""
        assert value is not None
        self.storages[value] = self.read(source).storage

    # --- launches ---------------------------------------------------------------------------------------------------

    def emit(self, kernel: Kernel, arguments: Iterable[Argument], groups: Sequence[int], nodes: Sequence[Node]) -> None:
        """Launch ``kernel`` with so many work-groups in each dimension; none at all if one is zero."""
        sizes = (*groups, 1, 1)[:3]
        if 0 in sizes:
            return
        if max(sizes[1:]) > MAX_GROUPS:
            raise UnsupportedError(
                f"node '{nodes[0].name}' ({nodes[0].op_type}) needs {max(sizes[1:])} work-groups along one dimension; "
                f"GPUs take {MAX_GROUPS}",
                node=nodes[0].name,
            )
        source = tuple(name for node in nodes for name in node.source)
        name = f"{'+'.join(node.op_type for node in nodes[:4])}{'+…' if len(nodes) > 4 else ''} {nodes[0].name}"
        self.drafts.append(_Draft(kernel, tuple(arguments), (sizes[0], sizes[1], sizes[2]), name, source))

    def finish(self, consumed: Iterable[str] = ()) -> Program:
        """Bind outputs, plan the workspace, lay out the constants."""
        self._bind_outputs()
        for position, draft in enumerate(self.drafts):
            for argument in draft.arguments:
                if isinstance(argument, Read | Write):
                    storage = argument.storage
                    storage.first = position if storage.first < 0 else storage.first
                    storage.last = position
        scratch = [
            s
            for s in dict.fromkeys(a.storage for d in self.drafts for a in d.arguments if isinstance(a, Read | Write))
            if s.place is None and s not in set(self.array_storages)
        ]
        arena = plan_arena([Lifetime(s.first, s.last, s.nbytes) for s in scratch], alignment=CONSTANT_ALIGNMENT)
        for storage, offset in zip(scratch, arena.offsets, strict=True):
            storage.place = Place(Home.WORKSPACE, 0, offset)
        byte = poison_byte()
        if byte is not None:
            self._add_poison(scratch, byte)
        offsets, constant_bytes = pack_constants(self.arrays)
        for storage, offset in zip(self.array_storages, offsets, strict=True):
            storage.place = Place(Home.CONSTANT, 0, offset)
        return Program(
            launches=[self._launch(draft) for draft in self.drafts],
            workspace_bytes=arena.total_bytes,
            constants=list(zip(offsets, self.arrays, strict=True)),
            constant_bytes=constant_bytes,
            consumed=frozenset(self.consumed),
        )

    # --- private ----------------------------------------------------------------------------------------------------

    def _constant_storage(self, value: Value, tensor: Tensor) -> Storage:
        self.consumed.add(value.name)
        storage = self.data(tensor.numpy()).storage
        self.storages[value] = storage
        return storage

    def _bind_outputs(self) -> None:
        """Let results be computed where they are wanted; copy those that are an input, a constant, or wanted twice."""
        constants = set(self.array_storages)
        for index, value in enumerate(self.view.outputs):
            source = self.read(value)
            storage = source.storage
            if storage.place is None and storage not in constants:
                storage.place = Place(Home.OUTPUT, index)
                continue
            target = Storage(storage.nbytes, Place(Home.OUTPUT, index))
            producer = [value.producer] if value.producer is not None else []
            size = self.size(value)
            kernel, groups, scalars = copy_kernel(source.itemsize, (size,), (1,), (1,))
            if size:
                self.drafts.append(
                    _Draft(
                        kernel,
                        (source, Write(target, source.itemsize), *scalars),
                        groups,
                        f"copy {value.name}",
                        tuple(name for node in producer for name in node.source),
                    )
                )

    def _add_poison(self, scratch: Sequence[Storage], byte: int) -> None:
        """Fill each storage right after the last launch that needs it, see `mace_core.provider.poison`."""
        pattern = self.data(np.array([byte], np.uint8))
        ended: dict[int, list[Storage]] = {}
        for storage in scratch:
            ended.setdefault(storage.last, []).append(storage)
        drafts: list[_Draft] = []
        for position, draft in enumerate(self.drafts):
            drafts.append(draft)
            for storage in ended.get(position, ()):
                if storage.nbytes:
                    kernel, groups, scalars = copy_kernel(1, (storage.nbytes,), (0,), (1,))
                    drafts.append(_Draft(kernel, (pattern, Write(storage, 1), *scalars), groups, "Poison", ()))
        self.drafts = drafts

    def _launch(self, draft: _Draft) -> Launch:
        arguments: list[Pointer | int | float] = []
        for argument in draft.arguments:
            if isinstance(argument, Read | Write):
                assert argument.storage.place is not None
                arguments.append(Pointer(argument.storage.place, argument.itemsize))
            else:
                arguments.append(argument)
        return Launch(draft.kernel, tuple(arguments), draft.groups, draft.name, draft.source)


_SHARED_BYTES = 4096
"""Constants up to this size are compared by content; larger ones are hardly ever equal."""
