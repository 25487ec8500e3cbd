"""The devices of one session: in order of priority, opened when first needed, opened again after they were lost."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from numbers import Real
from types import NoneType
from typing import TYPE_CHECKING, TypeVar

from mace_core.errors import DeviceLostError, UsageError
from mace_core.faults import FaultLimits
from mace_core.host.fork_safe import fork_safe_lock, unforked
from mace_core.host.signals import signals_kept
from mace_core.host.waiting import GivenUpError, hangs, within
from mace_core.provider import Allocator, Backend, Buckets, Buffer, DataTransfer, Device, ShapeSupport, Stream
from mace_core.provider.border import WrongAnswerError, attempt, calling, instance_of, list_of, reason_of
from mace_core.provider.foreign import ForeignKind
from mace_core.provider.registry import CUSTOM, REFERENCE
from mace_core.scheduler.planning.host_arenas import HostArenas
from mace_core.scheduler.planning.padded_views import SeenSizes
from mace_core.scheduler.planning.policy import ORDER, Policy
from mace_core.scheduler.planning.shared import BucketTable
from mace_core.tensor import MemoryKind

if TYPE_CHECKING:
    from mace_core.scheduler.costs.rates import Rates

_log = logging.getLogger("mace")

_T = TypeVar("_T")


@dataclass(slots=True, eq=False)
class SessionDevice:
    """One device a session may use.

    Attributes:
        device: its description.
        open_backend: opens it.
        named: the user named it: failing to open it is an error, not a note.
        is_fallback: takes only what the devices before it leave over.
        only_pinned: takes only nodes pinned to it.
        provider_code: what identifies the provider's code to the caches.
        options_key: the options it is opened with, as text for cache keys.
        compile_options: those of them that what it stores may depend on, and that its key does not tell, as text.
        has_options: some were given for it: they are tried at once, since only the provider knows their values.
        imports_computed: its provider knows that what others computed may be imported, not only what is fed.
        model: how messages call the session's model.
        limits: how long calls of it are waited for.
        refused: why it is not used any more; "" while it is.
        is_closed: it is never opened again.
        turn: held by the run that is at work on it, among those that follow each other over several devices.
        seen_sizes: what its subgraphs were planned for.
        compiled_buckets: what it compiled for padded sizes.
    """

    device: Device
    open_backend: Callable[[], Backend]
    named: bool = True
    is_fallback: bool = False
    only_pinned: bool = False
    provider_code: str = ""
    options_key: str = ""
    compile_options: str = "{}"
    has_options: bool = False
    imports_computed: bool = False
    model: str = ""
    limits: FaultLimits = field(default_factory=FaultLimits)
    refused: str = ""
    is_closed: bool = False
    turn: threading.Lock = field(init=False, repr=False, default_factory=fork_safe_lock)
    _backend: Backend | None = field(default=None, repr=False)
    seen_sizes: SeenSizes = field(init=False, repr=False, default_factory=SeenSizes)
    compiled_buckets: BucketTable = field(init=False, repr=False, default_factory=BucketTable)

    @property
    def name(self) -> str:
        return self.device.qualified_name

    @property
    def is_reference(self) -> bool:
        return self.device.provider == "reference"

    def calling(self, call: str) -> calling:
        """A call into its provider, ``Class.method`` of the contract, whose errors name the model and the device."""
        return calling(self.name, call, self.model)

    def answer(self, deed: str, function: Callable[[], _T], late: Callable[[_T], object] | None = None) -> _T:
        """What ``function`` gives, a call into its backend that takes as long as its driver likes, within the limits.

        ``deed``: what it does meanwhile, for messages; ``late``: given what comes too late.

        Raises:
            GivenUpError: if that was not enough.
            BaseException: what the provider raises.
        """
        if self.device.provider in (REFERENCE, CUSTOM):  # nobody's driver
            return function()
        return within(
            self.limits.compile_seconds, self.device.provider, deed, function, limit="compile_seconds", late=late
        )

    @property
    def backend(self) -> Backend:
        """The open backend; opened now if it was not."""
        if self._backend is None:
            if self.is_closed:
                raise UsageError(f"{self.name} belongs to a session that is closed")
            with unforked(), self.calling("ExecutionProvider.open"):
                opened = instance_of(Backend, self.open_backend())
            with self.calling("Backend.shape_support"):
                instance_of(ShapeSupport, opened.shape_support)
            self._backend = opened
        return self._backend

    @property
    def is_open(self) -> bool:
        return self._backend is not None

    @property
    def memory(self) -> MemoryKind:
        """The kind of memory its tensors live in."""
        allocator = self.allocator()
        with self.calling("Allocator.memory"):
            return instance_of(MemoryKind, allocator.memory)

    def allocator(self) -> Allocator:
        """What allocates the memory its tensors live in."""
        with self.calling("Backend.allocators"):
            found = list_of(Allocator, self.backend.allocators())
            if not found:
                raise WrongAnswerError("returned an empty sequence")
        return found[0]

    def allocate(self, allocator: Allocator, nbytes: int) -> Buffer:
        """Memory of ``allocator``, looked at."""
        with self.calling("Allocator.allocate"):
            buffer = instance_of(Buffer, allocator.allocate(nbytes))
            if buffer.nbytes < nbytes:
                raise WrongAnswerError(f"returned a buffer of {buffer.nbytes} bytes where {nbytes} were asked for")
            if buffer.memory in (MemoryKind.HOST, MemoryKind.PINNED) and nbytes and not buffer.address:
                raise WrongAnswerError(f"returned a buffer in {buffer.memory.value} memory without an address")
        return buffer

    def transfer(self) -> DataTransfer:
        """How bytes get in and out of its own memory."""
        with self.calling("Backend.transfer"):
            found = self.backend.transfer()
            instance_of(DataTransfer, found)
        assert found is not None, "looked at above"
        return found

    def stream(self) -> Stream | None:
        """A new queue; None for a device without."""
        with self.calling("Backend.create_stream"):
            return instance_of((Stream, NoneType), self.backend.create_stream())

    @property
    def notes(self) -> tuple[str, ...]:
        """What the open backend wants its user to read."""
        if self._backend is None:
            return ()
        try:
            with self.calling("Backend.notes"):
                notes = self._backend.notes
                return (notes,) if isinstance(notes, str) else tuple(list_of(str, notes))
        except Exception as error:
            _log.warning("its notes are left out: %s", error)
            return ()

    @property
    def imports(self) -> frozenset[ForeignKind]:
        """Kinds of foreign memory that it can work on where it lies."""
        with self.calling("Backend.imports"):
            return frozenset(list_of(ForeignKind, self.backend.imports))

    @property
    def takes_symbols(self) -> bool:
        """Whether it takes sizes that are not decided."""
        return self.backend.shape_support is ShapeSupport.SYMBOLIC

    @property
    def compiles_per_shape(self) -> bool:
        """Whether another input shape makes it compile, as far as it says."""
        if self.backend.shape_support is ShapeSupport.DYNAMIC:
            return False
        with self.calling("Backend.compiles_per_shape"):
            return bool(self.backend.compiles_per_shape)

    @property
    def buckets(self) -> Buckets | None:
        """The sizes that it would rather compile for; None where each shape is compiled as it is, or none at all."""
        if self.takes_symbols or not self.compiles_per_shape:
            return None
        with self.calling("Backend.buckets"):
            found = instance_of((Buckets, NoneType), self.backend.buckets)
        if found is not None:
            self.compiled_buckets.most = found.most_compiled
        return found

    def measure_peak(self, seconds: float) -> float | None:
        """Multiply-accumulates a second, see `Backend.measure_peak`; an error there is logged, since no run depends on
        it."""
        try:
            with signals_kept(), self.calling("Backend.measure_peak"):
                return instance_of((Real, NoneType), self.backend.measure_peak(seconds))
        except Exception as error:
            _log.error("its peak is not known: %s", error)
            return None

    def trim(self) -> int:
        """Have it give up what it keeps for later; how much that was.  An error there is logged: memory is short."""
        count = self.compiled_buckets.give_up_idle(self.name, self.model)
        backend = self._backend
        if backend is None or hangs(self.device.provider):
            return count
        try:
            with self.calling("Backend.trim"):
                return count + instance_of(int, backend.trim())
        except Exception as error:
            _log.error("what it keeps is not given up: %s", error)
            return count

    def close(self) -> None:
        """Close the backend; an error of a provider there is logged, since nothing depends on it any more."""
        self.is_closed = True
        self.compiled_buckets.close(self.name, self.model)
        backend, self._backend = self._backend, None
        if backend is not None:
            with signals_kept():
                attempt(backend.close, self.name, "Backend.close", self.model)


class DevicePool:
    """The devices of a session.  Closed when the session is closed and the last plan made from it is gone."""

    def __init__(
        self,
        devices: list[SessionDevice],
        policy: Policy = ORDER,
        rates_of: Callable[[SessionDevice], Rates | None] = lambda device: None,
    ) -> None:
        """
        Args:
            devices: in order of priority.
            policy: how nodes are shared among them.
            rates_of: what a device costs, as far as that is known.
        """
        self.devices = devices
        self.policy = policy
        self.rates_of = rates_of
        self.arenas = HostArenas()
        self.relieve: Callable[[MemoryError], Iterator[None]] | None = None
        self.on_lost: Callable[[str, DeviceLostError], None] | None = None
        self.failures: dict[str, str] = {}  # of devices that are used on, in words
        self._users = 1
        self._generation = 0
        self._plans: Counter[int] = Counter()  # by generation
        self._replaced: list[tuple[int, SessionDevice]] = []  # with the latest generation of plans that may use them
        self._lock = fork_safe_lock()

    @property
    def model(self) -> str:
        """How messages call the model."""
        return self.devices[0].model if self.devices else ""

    def retain(self) -> int:
        """One more plan holds things made from these devices; what `release` is to be told."""
        with self._lock:
            self._users += 1
            self._plans[self._generation] += 1
            return self._generation

    def release(self, generation: int | None = None) -> None:
        """One holder fewer; the last one closes the backends, and the last of a ``generation`` of plans those that
        later ones do not use any more."""
        with self._lock:
            self._users -= 1
            last = self._users == 0
            if generation is not None:
                self._plans[generation] -= 1
            unused = self._unused()
        for device in [*unused, *(self.devices if last else ())]:
            device.close()

    def renew(self, name: str) -> None:
        """Have the device opened again when it is next needed.  What earlier plans hold of it stays until they are
        gone.  Nobody may be planning."""
        with self._lock:
            at = next(at for at, device in enumerate(self.devices) if device.name == name)
            old = self.devices[at]
            self.devices[at] = replace(old, refused="", is_closed=False, _backend=None)
            self._replaced.append((self._generation, old))
            self._generation += 1
            unused = self._unused()
        for device in unused:
            device.close()

    def _unused(self) -> list[SessionDevice]:
        """Devices that were replaced, and whose plans are all gone; taken out."""
        oldest = min((generation for generation, count in self._plans.items() if count), default=self._generation)
        found = [device for generation, device in self._replaced if generation < oldest]
        self._replaced = [(generation, device) for generation, device in self._replaced if generation >= oldest]
        return found

    def open_names(self) -> list[str]:
        """Qualified names of those that are in use."""
        return [device.name for device in self.devices if device.is_open]

    def find(self, name: str) -> SessionDevice | None:
        """The device with this qualified name."""
        return next((device for device in self.devices if device.name == name), None)

    def refuse(self, name: str, reason: str) -> None:
        """Use the device no more."""
        device = self.find(name)
        if device is not None and not device.refused:
            _log.error("%s%s is not used any more: %s", f"{device.model}: " if device.model else "", name, reason)
            device.refused = reason
            device.compiled_buckets.close(name, self.model)

    def mark_lost(self, name: str, error: DeviceLostError) -> None:
        """Use the device no more until it is opened again, see `renew`."""
        device = self.find(name)
        if device is not None and not device.refused:
            deed = "hangs" if isinstance(error, GivenUpError) else "was lost"
            device.refused = f"it {deed}: {reason_of(error)}"
            device.compiled_buckets.close(name, self.model)

    def lose(self, name: str, error: DeviceLostError) -> None:
        """The device turned out to be gone while something was planned."""
        self.mark_lost(name, error)
        if self.on_lost is not None:
            self.on_lost(name, error)

    def refusal(self, device: SessionDevice) -> str:
        """Why a device of this pool is not used; "" where it is."""
        return device.refused

    def candidates(self) -> list[SessionDevice]:
        """Devices not refused, in order; not necessarily open."""
        return [device for device in self.devices if not self.refusal(device)]

    def ready(self, device: SessionDevice) -> bool:
        """Whether the device is open, opened now if it was not; one that cannot be opened is refused from then on.

        Raises:
            UsageError: if its options mean nothing to it; never a reason to run elsewhere.
            MaceError: if it cannot be opened and the user named it, or gave options for it.
        """
        if device.is_open:
            return True
        try:
            device.backend  # noqa: B018 - opening is the point
        except UsageError:
            raise
        except Exception as error:
            if device.named or device.has_options:  # its options ask for it by name
                raise
            device.refused = f"it could not be opened: {reason_of(error)}"
            _log.warning("%s is left out: %s", device.name, device.refused, exc_info=_log.isEnabledFor(logging.DEBUG))
            return False
        return True


class PoolWithout(DevicePool):
    """The same devices but for some, which rest or have failed the run that is going on."""

    def __init__(self, whole: DevicePool, without: Mapping[str, str]) -> None:
        """``without``: names of the devices that are left out, and why."""
        super().__init__(whole.devices, whole.policy, whole.rates_of)
        self.arenas = whole.arenas
        self.relieve = whole.relieve
        self.failures = whole.failures
        self.without = without
        self._whole = whole

    def retain(self) -> int:
        return self._whole.retain()

    def release(self, generation: int | None = None) -> None:
        self._whole.release(generation)

    def lose(self, name: str, error: DeviceLostError) -> None:
        self._whole.lose(name, error)

    def refusal(self, device: SessionDevice) -> str:
        return self.without.get(device.name) or device.refused
