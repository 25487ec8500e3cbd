"""A device made ready: says what it can run, compiles it, and keeps the handles."""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mace_core.graph import GraphView, Node
from mace_core.provider.buckets import Buckets
from mace_core.provider.device import Device
from mace_core.provider.execution import Execution, Stream
from mace_core.provider.foreign import ForeignKind, ForeignMemory
from mace_core.provider.memory import Allocator, Buffer, DataTransfer, HostAllocator


class ShapeSupport(enum.Enum):
    """What shapes a compiled subgraph serves."""

    STATIC = "static"  # exactly those it was compiled for; asked and compiled per concrete signature
    BOUNDED = "bounded"  # up to those it was compiled for; reserved for api 1.4, treated as STATIC
    DYNAMIC = "dynamic"  # any of the same ranks; asked per signature, compiled once
    SYMBOLIC = "symbolic"  # as STATIC for sizes that are numbers; takes views with symbolic sizes too (since api 1.2)


class Compatibility(enum.Enum):
    """A provider's word on a blob that it serialized earlier."""

    OPTIMAL = "optimal"  # used
    USABLE = "usable"  # used; explanations tell that compiling anew would be better
    RECOMPILE = "recompile"  # not used: compiled again, and replaced
    UNSUPPORTED = "unsupported"  # not used: compiled again, and replaced


@dataclass(frozen=True, slots=True)
class Cost:
    """An estimate for one claim; None where the provider does not know.

    Attributes:
        seconds: of the whole claim on the device, its inputs there already; goes over what the core estimates.
        bytes_moved: without effect yet.
        joules: energy of the whole claim.
    """

    seconds: float | None = None
    bytes_moved: int | None = None
    joules: float | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """Nodes a backend offers to run.

    An atomic claim is taken whole or not at all (a quantize-op-dequantize cluster); of a divisible one the core may
    take any subset.  Claims may overlap; the core decides, by ``cost`` where a session places
    by cost.
    """

    nodes: tuple[Node, ...]
    atomic: bool = False
    cost: Cost | None = None


@dataclass(frozen=True, slots=True)
class Rejection:
    """A node a backend cannot run, with a reason the user can act on."""

    node: Node
    reason: str


@dataclass(frozen=True, slots=True)
class Capability:
    """Answer to "what of this graph can you run?".  A node in neither list is rejected, and the core says
    that this provider did not answer."""

    claims: Sequence[Claim] = ()
    rejections: Sequence[Rejection] = ()


class CompiledSubgraph(ABC):
    """A subgraph ready to run.  Shared by all threads; per-request state is in its executions.

    Attributes:
        workspace_bytes: scratch memory each execution needs during a run; the core provides it.
        consumed_constants: names of constants the backend holds in a form of its own; the core gives the pages of its
            copy, where they are those of a mapped file, back to the system.
        source_map: span name -> names of the model's nodes it stands for, for spans that are reported without them.
        notes: name of a node of the view -> how it is computed, where that is worth telling (explanations).
        in_place: numbers of those of ``GraphView.in_place`` that it computes so: it reads the input with gaps, and
            writes the new entries of the output behind it.  For the others, inputs are dense and outputs have memory of
            their own, as always (since api 1.2).
    """

    workspace_bytes: int = 0
    consumed_constants: frozenset[str] = frozenset()
    source_map: Mapping[str, tuple[str, ...]] = {}
    notes: Mapping[str, str] = {}
    in_place: frozenset[int] = frozenset()

    @abstractmethod
    def new_execution(self) -> Execution:
        """Argument state for one more concurrent request.  Called from any thread."""

    def close(self) -> None:
        """Free everything.  The core has closed all executions before.  Idempotent."""


class Backend(ABC):
    """An open device.  The core calls ``capability`` and ``compile`` from one thread at a time.

    Attributes:
        device: the device it was opened on.
        shape_support: what shapes its compiled subgraphs serve.
        compiles_per_shape: whether another input shape makes it compile device code.  False: the shape is only planned,
            with kernels that take any.
        buckets: sizes to compile for in the place of those that come, where padding is right (since api 1.2).  None:
            each shape is compiled as it is.  Without effect where a shape compiles no device code.
        imports: kinds of foreign memory that `import_memory` is asked for (since api 1.1).
        notes: sentences about how the device was opened that its user should read, such as an option that could not be
            kept; explanations show them.
    """

    device: Device
    shape_support: ShapeSupport = ShapeSupport.STATIC
    compiles_per_shape: bool = True
    buckets: Buckets | None = None
    notes: Sequence[str] = ()
    imports: frozenset[ForeignKind] = frozenset()

    # --- required -------------------------------------------------------------------------------------------------

    @abstractmethod
    def capability(self, view: GraphView) -> Capability:
        """Which nodes of ``view`` this backend offers to run and, for the others, why not.

        ``view`` is valid during the call only (nodes may be referred to in the answer).
        """

    @abstractmethod
    def compile(self, subgraphs: Sequence[GraphView]) -> list[CompiledSubgraph]:
        """Make each subgraph runnable, in one call so that they may share a vendor context.

        Every node of each was claimed by ``capability`` under the same signature.

        Raises:
            UnsupportedError, OutOfMemoryError: the core places the nodes elsewhere and keeps the reason.
        """

    # --- with defaults --------------------------------------------------------------------------------------------

    def allocators(self) -> Sequence[Allocator]:
        """Allocators for the memory kinds of the device, its own kind first; further ones are reserved for api 1.4.
        Default: ordinary host memory."""
        return (HostAllocator(),)

    def transfer(self) -> DataTransfer | None:
        """How bytes get in and out of the device's own memory; None where that is ordinary host memory."""
        return None

    def import_memory(self, memory: ForeignMemory) -> Buffer | None:
        """A buffer of the device over memory of somebody else's, to read from and not to write to, without a copy.
        None for a piece that it cannot take (alignment, size, another driver's): the core copies where it can.

        Called at a run, of a kind that ``imports`` names, for what is fed and, since api 1.3, for what the host or
        another device has computed; the memory and its content stay as they are until `release_memory`.  New in api
        1.1.

        Raises:
            ProviderError: if the memory is not what it says.
        """
        return None

    def release_memory(self, buffer: Buffer) -> None:
        """End an import, once nothing of the device reads from it any more.  New in api 1.1."""

    def export_memory(self, buffer: Buffer) -> ForeignMemory | None:
        """How another device may import a whole buffer of this one's pinned memory, other than by its address; None
        where it cannot.  What was computed is complete and seen by all when the core asks.  New in api 1.3.

        Args:
            buffer: of one of `allocators`; a descriptor in the answer stays this backend's, as long as the buffer does.
        """
        return None

    def create_stream(self) -> Stream | None:
        """A new in-order queue, or None for a backend that only runs synchronously."""
        return None

    def serialize(self, compiled: Sequence[CompiledSubgraph]) -> bytes | None:
        """A blob from which :meth:`deserialize` restores the whole group; None if this backend has no such form."""
        return None

    def deserialize(self, blob: bytes, subgraphs: Sequence[GraphView]) -> list[CompiledSubgraph]:
        """Restore a group.  The core has checked the blob's integrity and key.

        Raises:
            UnsupportedError: if the blob cannot be used after all; the core compiles again.
        """
        raise TypeError(f"{type(self).__name__} does not restore blobs")

    def serialize_parts(self, compiled: Sequence[CompiledSubgraph]) -> Sequence[bytes | memoryview] | None:
        """As :meth:`serialize`, in parts that form the blob when concatenated, so that large ones need not be
        copied.  The core calls this one; the default gives the single part that :meth:`serialize` makes."""
        blob = self.serialize(compiled)
        return None if blob is None else (blob,)

    def deserialize_view(self, blob: memoryview, subgraphs: Sequence[GraphView]) -> list[CompiledSubgraph]:
        """As :meth:`deserialize`, from read-only memory that begins at a multiple of 64 bytes and stays as it is while
        anything refers to it: usually a mapped file, so that weights may be used where they lie.  The core calls this
        one; the default copies the bytes for :meth:`deserialize`."""
        return self.deserialize(bytes(blob), subgraphs)

    def compatibility_key(self) -> str:
        """Everything outside the graph that a blob depends on (driver, SoC, SDK build), as text."""
        return ""

    def check_compatibility(self, key: str) -> Compatibility:
        """What a blob made under ``key`` is worth on this backend."""
        return Compatibility.OPTIMAL if key == self.compatibility_key() else Compatibility.RECOMPILE

    def measure_peak(self, seconds: float) -> float | None:
        """Float32 multiply-accumulates a second that the device can do as it was opened (its threads, its instruction
        set), measured for about ``seconds``; None where that is not known."""
        return None

    def trim(self) -> int:
        """Give up memory of the device or the host that can be had or made again, and that no execution is using: pools
        of buffers, packed weights, caches.  Called when memory is short, before anything fails, from any thread, while
        executions may run.  New in api 1.3.

        Returns:
            The bytes given up, as far as that is known; 0 for none.
        """
        return 0

    def close(self) -> None:
        """Free the device.  The core has closed everything made from it before.  Idempotent."""
