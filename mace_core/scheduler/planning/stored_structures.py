"""Plans of symbolic sizes, stored and restored: a process that finds one plans nothing, whatever the shape.

What is stored of a plan is what planning found out: the symbols with all expressions and conditions, the resolution,
where nodes were placed, and what the devices compiled.  Registers, memory and the code that computes sizes are made of
that anew, by the code that makes them for a new plan.  So what is read is looked through, and nothing in it is run but
what providers stored, which is trusted as every blob is.
"""

from __future__ import annotations

import json
import logging
import struct
from collections.abc import Callable, Collection, Mapping, Sequence
from copy import copy
from typing import TYPE_CHECKING, NamedTuple

from mace_core.errors import DeviceLostError, OutOfMemoryError, TransientError
from mace_core.graph import Graph, Node, Value
from mace_core.host.fork_safe import unforked
from mace_core.provider import CompiledSubgraph
from mace_core.provider.border import close_all
from mace_core.scheduler.planning.digests import digest_of, limit_words, part_words
from mace_core.scheduler.planning.model import PreparedModel
from mace_core.scheduler.planning.partition import CORE_DEVICE, Partition
from mace_core.scheduler.planning.placement import PlacedStage, on_host, views_of
from mace_core.scheduler.planning.remembered import placement_record, pool_words, recorded_partitioning, still_good
from mace_core.scheduler.planning.signatures import is_numbers
from mace_core.scheduler.planning.stages import Stage
from mace_core.scheduler.planning.stored_forms import BLOB_ALIGNMENT, stores
from mace_core.scheduler.planning.structure_files import StoredFamily, Summary
from mace_core.tensor import Tensor, TensorType, ValueType

if TYPE_CHECKING:
    from mace_core.graph import GraphView
    from mace_core.graph.signature import Resolution
    from mace_core.scheduler.growing import Growing
    from mace_core.scheduler.planning.devices import DevicePool, SessionDevice
    from mace_core.scheduler.planning.plan import StagePlan
    from mace_core.symbolic import Trace

_log = logging.getLogger("mace")

_LENGTH = struct.Struct("<Q")

_MOST_STORED = 64
"""Entries that one session adds to the index at most: contents that decide shapes could be without number."""


_PASSING = (MemoryError, OSError, OutOfMemoryError, TransientError, DeviceLostError)
"""Failures that say nothing of the model."""


class RestoredStage(NamedTuple):
    """A stage of symbolic sizes as it was stored.

    Attributes:
        stage, placed: as if planned.
        symbols: for each symbol the positions of the numbers that it stands for.
        fixed: the other positions, and what numbers are there.
    """

    stage: Stage
    placed: PlacedStage
    symbols: tuple[tuple[int, ...], ...]
    fixed: tuple[tuple[int, int], ...]


class UnfitError(ValueError):
    """A plan that is stored cannot be used here."""


class StoredStructures:
    """Stores and restores the plans of symbolic sizes of one session."""

    def __init__(self, model: PreparedModel, pool: DevicePool, *, strict: bool) -> None:
        self._model = model
        self._pool = pool
        self._strict = strict
        self._noted = 0

    def family(
        self,
        graph: Graph,
        types: Mapping[Value, ValueType],
        fixed: Mapping[Value, Tensor],
        pins: Mapping[Node, str],
        growing: Growing | None = None,
        *,
        at_once: bool = False,
    ) -> StoredFamily | None:
        """What is stored of the signatures that differ from this one in numbers alone; None where nothing can be.

        Args:
            graph: the model or a part of it.
            types, fixed: of its inputs.
            pins: device by node.
            growing: what is fed with room to grow.
            at_once: whether every size is a symbol from the first signature on.
        """
        files = self._model.structures
        if files is None:
            return None
        numbers = {value: tensor for value, tensor in fixed.items() if is_numbers(tensor)}
        others = {value: tensor for value, tensor in fixed.items() if value not in numbers}
        words = part_words(graph, {value: _without_sizes(type) for value, type in types.items()}, others)
        words += [f"{value.name}: {tensor.size} numbers" for value, tensor in numbers.items()]
        words += ["at once"] if at_once else []
        if growing is not None:
            words += ["growing", *(f"{pair.source.name} {pair.output} {pair.axis}" for pair in growing.pairs)]
        return files.family(digest_of(*words, *limit_words(), *pool_words(self._pool, pins, strict=self._strict)))

    # --- storing --------------------------------------------------------------------------------------------------

    def note(self, family: StoredFamily, numbers: Sequence[int]) -> None:
        """Keep for later processes that a signature was planned."""
        if self._may_store():
            family.note(numbers)

    def note_failure(
        self, family: StoredFamily, numbers: Sequence[int], varied: Collection[int], error: Exception, reason: str
    ) -> None:
        """Keep for later processes that no plan could be made, unless another try may have more luck."""
        if not isinstance(error, _PASSING) and self._may_store():
            family.note_failure(numbers, sorted(varied), reason)

    def keep(
        self,
        family: StoredFamily,
        graph: Graph,
        plan: StagePlan,
        numbers: Sequence[int],
        symbols: Sequence[Sequence[int]],
        fixed: Sequence[tuple[int, int]],
    ) -> None:
        """Store a plan, where everything that it consists of can be stored.

        Args:
            family: of the signature.
            graph: what was planned.
            plan: of symbolic sizes; complete.
            numbers: of the signature that it was made for.
            symbols: for each symbol the positions of the numbers that it stands for.
            fixed: the other positions, and what numbers are there.
        """
        if plan.stage.resolution is None or not self._may_store():  # operators were replaced by equivalent forms
            return
        try:
            with unforked():
                parts = self._described(graph, plan, symbols, fixed)
            if parts is not None:
                family.keep(numbers, _summary(plan, symbols, fixed), parts)
        except Exception as error:  # only the next start is slower
            shown = error if _log.isEnabledFor(logging.DEBUG) else None
            _log.info("a plan of symbolic sizes is not stored (%s: %s)", type(error).__name__, error, exc_info=shown)

    def _may_store(self) -> bool:
        self._noted += 1
        return self._noted <= _MOST_STORED

    def _described(
        self, graph: Graph, plan: StagePlan, symbols: Sequence[Sequence[int]], fixed: Sequence[tuple[int, int]]
    ) -> list[bytes | memoryview] | None:
        """The content of an entry; None where something has no stored form."""
        from mace_core.operators.stored_resolution import describe_resolution
        from mace_core.symbolic.stored import SizeWriter, dump_trace

        stage, placed = plan.stage, plan.placed
        assert stage.trace is not None
        assert stage.resolution is not None
        assert plan.sizes is not None
        devices = self._asked(placed)
        if not placed.is_steady or not all(device.is_open and stores(device.backend) for device in devices):
            return None
        record = placement_record(placed, stage, devices)
        if record is None:
            return None
        sizes = SizeWriter(stage.trace)
        resolution = describe_resolution(_with_capacity(graph, stage.growing), stage.resolution, sizes)
        blobs: list[tuple[str, str, int, int]] = []
        body: list[bytes | memoryview] = []
        end = 0
        for device in devices:
            own = _compiled_on(device.name, placed)
            if not own:
                continue
            form = self._model.sized_form(device, own)
            if form is None:
                return None
            nbytes = sum(part.nbytes for part in form.parts)
            blobs.append((device.name, form.compatibility, end, nbytes))
            body += [*form.parts, bytes(-nbytes % BLOB_ALIGNMENT)]
            end += nbytes + -nbytes % BLOB_ALIGNMENT
        document = {
            "symbols": symbols,
            "fixed": fixed,
            "trace": dump_trace(stage.trace, plan.sizes.largest),
            "expressions": sizes.expressions,
            "resolution": resolution,
            "placement": record,
            "blobs": blobs,
        }
        text = json.dumps(document, separators=(",", ":")).encode()
        head = _LENGTH.pack(len(text)) + text
        return [head + bytes(-len(head) % BLOB_ALIGNMENT), *body]

    def _asked(self, placed: PlacedStage) -> list[SessionDevice]:
        """The devices that had a say."""
        placements = placed.partitioning.placements.values()
        names = {placement.device for placement in placements}.union(*(one.declined for one in placements))
        return [device for device in self._pool.devices if device.name in names]

    # --- restoring ------------------------------------------------------------------------------------------------

    def restore(
        self,
        graph: Graph,
        entry: memoryview,
        numbers: Sequence[int],
        cut: Callable[[Resolution, Trace], Stage],
        growing: Growing | None = None,
    ) -> RestoredStage:
        """What `keep` stored of ``graph``.

        Args:
            graph: what was planned.
            entry: what was stored.
            numbers: of the signature that it is wanted for.
            cut: makes a stage of what is known of ``graph``.
            growing: what is fed with room to grow.

        Raises:
            UnfitError: if it is of no use here: damaged, of other devices, or without its weights.
        """
        from mace_core.operators.stored_resolution import read_resolution
        from mace_core.symbolic.stored import SizeReader, load_trace

        try:
            (length,) = _LENGTH.unpack_from(entry)
            end = _LENGTH.size + length
            document = json.loads(bytes(entry[_LENGTH.size : end]))
            body = entry[end + -end % BLOB_ALIGNMENT :]
            trace = load_trace(document["trace"])
            symbols = tuple(tuple(map(int, group)) for group in document["symbols"])
            fixed = tuple((int(position), int(number)) for position, number in document["fixed"])
            positions = [position for group in symbols for position in group] + [position for position, _ in fixed]
            if len(symbols) != trace.symbols or not all(symbols) or sorted(positions) != list(range(len(numbers))):
                raise UnfitError("a stored plan is one of other signatures")
            if any(numbers[position] != number for position, number in fixed):
                raise UnfitError("a stored plan is one for other numbers")
            sizes = SizeReader(trace, document["expressions"])
            resolution = read_resolution(_with_capacity(graph, growing), document["resolution"], sizes)
            stage = cut(resolution, trace)
            record = document["placement"]
            if record["nodes"] != [node.name for node in stage.nodes]:
                raise UnfitError("a stored plan has other nodes")
            if not still_good(self._pool, record["asked"]):
                raise UnfitError("the devices do not take any more what is stored")
            partitioning = recorded_partitioning(record, stage)
            views = views_of(stage, partitioning.partitions, stage.graph.name, on_host(self._pool))
            blobs = {name: (str(key), int(first), int(size)) for name, key, first, size in document["blobs"]}
            compiled = self._compiled(partitioning.partitions, views, blobs, body)
        except UnfitError:
            raise
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError, struct.error) as error:
            raise UnfitError(f"{type(error).__name__}: {error}") from error
        placed = PlacedStage(partitioning, tuple(views), compiled, model=self._pool.model)
        return RestoredStage(stage, placed, symbols, fixed)

    def _compiled(
        self,
        parts: Sequence[Partition],
        views: Sequence[GraphView],
        blobs: Mapping[str, tuple[str, int, int]],
        body: memoryview,
    ) -> tuple[CompiledSubgraph | None, ...]:
        """What was compiled for each partition (None for control flow), grouped as when it was stored."""
        found: list[CompiledSubgraph | None] = [None] * len(parts)
        try:
            for device in self._pool.devices:
                own = [index for index, part in enumerate(parts) if part.device == device.name]
                if not own:
                    continue
                made_under, first, nbytes = blobs[device.name]
                blob = body[first : first + nbytes]
                if first < 0 or blob.nbytes != nbytes:
                    raise UnfitError("a stored plan is truncated")
                if not device.takes_symbols:
                    raise UnfitError(f"{device.name} takes no sizes that are not decided")
                restored = self._model.restore_sized(device, [views[index] for index in own], blob, made_under)
                if restored is None:
                    raise UnfitError(f"{device.name} does not take what is stored")
                for index, compiled in zip(own, restored, strict=True):
                    found[index] = compiled
            if any(one is None and part.device != CORE_DEVICE for part, one in zip(parts, found, strict=True)):
                raise UnfitError("a stored plan uses devices that are not there")
        except BaseException:
            for part, made in zip(parts, found, strict=True):
                close_all((made,), part.device, "CompiledSubgraph.close", self._pool.model)
            raise
        return tuple(found)


def _with_capacity(graph: Graph, growing: Growing | None) -> Graph:
    """``graph`` with all values that a resolution of it may speak of."""
    if growing is None or growing.capacity in graph.inputs:
        return graph
    wider = copy(graph)
    wider.inputs = [*graph.inputs, growing.capacity]
    return wider


def _compiled_on(device: str, placed: PlacedStage) -> list[CompiledSubgraph]:
    pairs = zip(placed.partitioning.partitions, placed.compiled, strict=True)
    return [compiled for part, compiled in pairs if part.device == device and compiled is not None]


def _without_sizes(type: ValueType) -> ValueType:
    """A type of all signatures of a family: those whose sizes are numbers have others in another one."""
    if isinstance(type, TensorType) and type.shape is not None and type.is_concrete:
        return TensorType(type.dtype, (None,) * len(type.shape))
    return type


def _summary(plan: StagePlan, symbols: Sequence[Sequence[int]], fixed: Sequence[tuple[int, int]]) -> Summary:
    """What a plan holds for."""
    assert plan.stage.trace is not None
    assert plan.sizes is not None
    from mace_core.symbolic import SizeProgramBuilder

    builder = SizeProgramBuilder(plan.stage.trace)
    checks = [(builder.register(guard.expression), guard.relation, guard.outcome) for guard in plan.sizes.guards]
    return Summary(symbols, fixed, plan.sizes.largest, builder.finish().rows.tolist(), checks)
