"""A model made ready for planning: its graph, with what the caches remember of it.

A second process that runs the same file with the same shapes finds the optimized graph and the resolved shapes here,
and imports neither onnx nor a compiler.
"""

from __future__ import annotations

import logging
import struct
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mace_core.caching.build_id import build_id
from mace_core.graph import Graph, GraphView, Value
from mace_core.graph.signature import Resolution
from mace_core.host.fork_safe import unforked
from mace_core.provider import CompiledSubgraph
from mace_core.provider.backend import Compatibility, ShapeSupport
from mace_core.provider.border import reason_of
from mace_core.provider.weights import WeightFiles, using_weight_files
from mace_core.scheduler.planning import notify
from mace_core.scheduler.planning.devices import SessionDevice
from mace_core.scheduler.planning.digests import digest_of, has_symbols, limit_words, part_words, view_words
from mace_core.scheduler.planning.fitting import prepared
from mace_core.scheduler.planning.placement import compile_views, restore_views
from mace_core.scheduler.planning.shared import SharedSubgraphs
from mace_core.scheduler.planning.stored_forms import (
    BLOB_ALIGNMENT,
    Restored,
    StoredForm,
    stored_form,
    stores,
    worth_of,
)
from mace_core.tensor import Tensor, ValueType
from mace_core.tensor.files import release_pages
from mace_core.tensor.symbolic import SymbolicTensor

if TYPE_CHECKING:
    from mace_core.caching.cache import CheckedCache
    from mace_core.caching.mapped import MappedCache
    from mace_core.scheduler.planning.model_times import ModelTimes
    from mace_core.scheduler.planning.packaged import PackagedParts
    from mace_core.scheduler.planning.structure_files import StructureFiles

_log = logging.getLogger("mace")

_MAX_STORED = 64
"""Resolutions one session stores at most: shapes that depend on data could be without number."""

_LENGTH = struct.Struct("<I")

Keep = Callable[[SessionDevice, Sequence[GraphView], Sequence[CompiledSubgraph]], None]
"""Keeps what a device compiled."""


@dataclass(frozen=True, slots=True)
class Preparation:
    """One time that a device made subgraphs runnable.

    Attributes:
        device: its qualified name.
        subgraphs, nodes: how many.
        seconds: what it took.
        restored: whether they were stored, so that nothing was compiled.
        note: what else there is to say of it, as the rest of a sentence.
        source: where what was restored was stored.
    """

    device: str
    subgraphs: int
    nodes: int
    seconds: float
    restored: bool
    note: str = ""
    source: str = "the cache"

    def __str__(self) -> str:
        how = f"restored from {self.source}" if self.restored else "compiled"
        parts = f"{self.subgraphs} subgraph{'s' * (self.subgraphs != 1)} of {self.nodes} nodes"
        return f"{self.device}: {parts} {how} in {self.seconds * 1000:.1f} ms{self.note}"


class PreparedModel:
    """The graph a session runs, and how it is resolved and compiled.

    Attributes:
        graph: optimized.
        label: how messages call the model.
        preparations: the latest compilations, in order.
        package: what was compiled of it ahead of time; None where nothing was.
    """

    def __init__(
        self,
        graph: Graph,
        label: str,
        *,
        fingerprint: str = "",
        cache: bool = False,
        mmap: bool = True,
        package: PackagedParts | None = None,
        keep: Keep | None = None,
    ) -> None:
        """``fingerprint``: of the optimized graph, "" where it is not known yet; ``cache``: use the caches on disk;
        ``mmap``: what providers stored is used where it lies in its file; ``keep``: told of all that is compiled."""
        self.package = package
        self._keep = keep
        self.graph = graph
        self.label = label
        self.preparations: deque[Preparation] = deque(maxlen=_MAX_STORED)
        self._fingerprint = fingerprint
        self._resolutions: CheckedCache | None = None
        self._blobs: MappedCache | None = None
        self._placements: CheckedCache | None = None
        self._stored: Counter[str] = Counter()
        self._mmap = mmap
        self._weights: WeightFiles | None = None
        self._shared = SharedSubgraphs()
        self._structures: StructureFiles | None = None
        self._has_structures = cache
        self._times: ModelTimes | None = None
        self._keeps_times = cache
        if cache:
            from mace_core.caching.cache import CheckedCache
            from mace_core.caching.mapped import MappedCache

            self._resolutions = CheckedCache("resolutions", build_id()) if fingerprint else None
            self._blobs = MappedCache("blobs", build_id())
            self._placements = CheckedCache("placements", build_id())
            weights = CheckedCache("weights", build_id())
            self._weights = WeightFiles(self._blobs, weights, self._model_key, mmap=mmap)

    def resolve(self, graph: Graph, types: Mapping[Value, ValueType], values: Mapping[Value, Tensor]) -> Resolution:
        """Shapes of ``graph`` (the model or a part of it) for one signature.

        Raises:
            ModelError: if the shapes do not fit the model.
        """
        key = ""
        is_numeric = not any(map(has_symbols, types.values())) and not any(
            isinstance(v, SymbolicTensor) for v in values.values()
        )
        if self._resolutions is not None and is_numeric:
            key = self._resolution_key(graph, types, values)
            found = self._stored_resolution(graph, key)
            if found is not None:
                return found
        from mace_core.operators import dump_resolution, resolve

        imports = {**graph.opset_imports, **self.graph.opset_imports}
        with nullcontext() if self.package is None else self.package.resolving():
            resolution = resolve(graph, types, values, opset_imports=imports)
        if key and self._resolutions is not None and self._may_store("resolutions"):
            self._resolutions.put(key, dump_resolution(graph, resolution))
        return resolution

    def _resolution_key(self, graph: Graph, types: Mapping[Value, ValueType], values: Mapping[Value, Tensor]) -> str:
        return digest_of(self._fingerprint, *part_words(graph, types, values), *limit_words())

    @property
    def structures(self) -> StructureFiles | None:
        """Plans of symbolic sizes; None where none are stored."""
        if self._structures is None and self._has_structures and self._blobs is not None:
            from mace_core.caching.cache import CheckedCache
            from mace_core.scheduler.planning.structure_files import StructureFiles

            index = CheckedCache("structures", build_id())
            self._structures = StructureFiles(self._blobs, index, self._model_key, mmap=self._mmap)
        return self._structures

    @property
    def times(self) -> ModelTimes | None:
        """What its partitions took; None where that is not kept."""
        if self._times is None and self._keeps_times:
            from mace_core.scheduler.planning.model_times import ModelTimes

            self._times = ModelTimes(self._model_key)
        return self._times

    def forget_resolutions(self) -> None:
        """Keep no resolved shapes on disk: they depend on more than the model and this build."""
        self._resolutions = self._structures = None
        self._has_structures = False

    def _stored_resolution(self, graph: Graph, key: str) -> Resolution | None:
        assert self._resolutions is not None
        blob = self._resolutions.get(key)
        if blob is None:
            return None
        from mace_core.operators.stored_resolution import load_resolution

        try:
            return load_resolution(graph, blob)
        except ValueError as error:
            _log.info("stored shapes are not used: %s", error)
            return None

    def compile(self, device: SessionDevice, views: Sequence[GraphView]) -> list[CompiledSubgraph]:
        """Compile, or restore from the cache where the backend has a form to store; what serves any shape and is there
        already is used again.

        Raises:
            ProviderError: what the backend raises.
        """
        with using_weight_files(self._weights):
            if any(view.trace is not None or view.in_place for view in views):
                start = time.perf_counter()
                with unforked():
                    made = compile_views(device, views)
                if self.package is not None:
                    self.package.miss_sizes(device)
                self._done(device, views, made, time.perf_counter() - start, restored=False)
                return made
            if device.backend.shape_support is ShapeSupport.DYNAMIC:
                found = self._shared.take(device.name, views, lambda new: self._compile_new(device, new))
            else:
                found = prepared(device, views, lambda new: self._compile_new(device, new))
            assert found is not None, "compiling gives something or raises"
            return found

    def _compile_new(self, device: SessionDevice, views: Sequence[GraphView]) -> list[CompiledSubgraph]:
        found = self._restore_new(device, views)
        if found is not None:
            return found
        start = time.perf_counter()
        try:
            with unforked():
                found = self._compile(device, views)
        except Exception as failure:
            seconds = time.perf_counter() - start
            notify.compiled(self.label, device.name, _names(views), seconds, restored=False, error=reason_of(failure))
            raise
        self._done(device, views, found, time.perf_counter() - start, restored=False)
        return found

    def restore(self, device: SessionDevice, views: Sequence[GraphView]) -> list[CompiledSubgraph] | None:
        """What the model's package or the cache has of these subgraphs, if the provider still takes it."""
        with using_weight_files(self._weights):
            if device.backend.shape_support is ShapeSupport.DYNAMIC:
                return self._shared.take(device.name, views, lambda new: self._restore_new(device, new))
            return prepared(device, views, lambda new: self._restore_new(device, new))

    def sized_form(self, device: SessionDevice, compiled: Sequence[CompiledSubgraph]) -> StoredForm | None:
        """What the device gives to be stored of subgraphs of symbolic sizes, without the weights."""
        with using_weight_files(self._weights):
            return stored_form(device, compiled)

    def restore_sized(
        self, device: SessionDevice, views: Sequence[GraphView], blob: memoryview, made_under: str
    ) -> list[CompiledSubgraph] | None:
        """What the device makes of a `sized_form`, if it still takes it."""
        with using_weight_files(self._weights):
            return self._restored(device, views, lambda: self._restore_from(device, views, blob, made_under))

    def _restore_new(self, device: SessionDevice, views: Sequence[GraphView]) -> list[CompiledSubgraph] | None:
        return self._restored(device, views, lambda: self._restore(device, views))

    def _restored(
        self,
        device: SessionDevice,
        views: Sequence[GraphView],
        restore: Callable[[], Restored | None],
    ) -> list[CompiledSubgraph] | None:
        start = time.perf_counter()
        with unforked():
            found = restore()
        if found is not None:
            seconds, note = time.perf_counter() - start, ""
            if found.worth is Compatibility.USABLE:
                again = "'mace cache clear'" if found.source == "the cache" else "'mace compile'"
                note = f"; the provider calls it usable, not optimal: {again} makes it compile again"
            self._done(device, views, found.subgraphs, seconds, restored=True, note=note, source=found.source)
            return found.subgraphs
        return None

    def _done(
        self,
        device: SessionDevice,
        views: Sequence[GraphView],
        compiled: Sequence[CompiledSubgraph],
        seconds: float,
        *,
        restored: bool,
        note: str = "",
        source: str = "",
    ) -> None:
        """Note and tell that subgraphs are ready, and release what is not needed any more."""
        nodes = _names(views)
        if self.package is not None and source != self.package.label:
            note += self.package.note(device)
        done = Preparation(device.name, len(views), len(nodes), seconds, restored, note, source)
        self.preparations.append(done)
        for view, subgraph in zip(views, compiled, strict=True):
            _release_consumed(view, subgraph)
        _log.info("%s", done)
        notify.compiled(self.label, device.name, nodes, seconds, restored=restored, error="")

    def _may_store(self, kind: str) -> bool:
        """Whether another entry of this kind may come from this session."""
        self._stored[kind] += 1
        return self._stored[kind] <= _MAX_STORED

    def _compile(self, device: SessionDevice, views: Sequence[GraphView]) -> list[CompiledSubgraph]:
        backend = device.backend
        compiled = compile_views(device, views)
        if self._keep is not None:
            self._keep(device, views, compiled)
        if self._blobs is not None and stores(backend) and self._may_store("blobs"):
            form = stored_form(device, compiled)
            if form is not None:
                compatibility = form.compatibility.encode()
                head = _LENGTH.pack(len(compatibility)) + compatibility
                self._blobs.put_parts(
                    self._blob_key(device, views), (head + bytes(-len(head) % BLOB_ALIGNMENT), *form.parts)
                )
        return compiled

    def _restore(self, device: SessionDevice, views: Sequence[GraphView]) -> Restored | None:
        """What the model's package or the cache holds, if the provider still takes it."""
        if self.package is not None:
            found = self.package.restore(device, views, view_words(views))
            if found is not None:
                return found
        if self._blobs is None or not stores(device.backend):
            return None
        entry = self._blobs.view(self._blob_key(device, views), mmap=self._mmap)
        if entry is None:
            return None
        (length,) = _LENGTH.unpack_from(entry)
        end = _LENGTH.size + length
        made_under = bytes(entry[_LENGTH.size : end]).decode()
        return self._restore_from(device, views, entry[end + -end % BLOB_ALIGNMENT :], made_under)

    def _restore_from(
        self, device: SessionDevice, views: Sequence[GraphView], blob: memoryview, made_under: str
    ) -> Restored | None:
        worth = worth_of(device, made_under)
        if worth is None:
            return None
        try:
            return Restored(restore_views(device, views, blob), worth)
        except Exception as error:  # whatever a provider makes of a blob it cannot read: compiled again, and replaced
            _log.info("%s; what is stored is not used", error)
            return None

    def stored_placement(self, words: Sequence[str]) -> bytes | None:
        """What `store_placement` was given under the same words for the same model."""
        return None if self._placements is None else self._placements.get(digest_of(self._model_key(), *words))

    def store_placement(self, words: Sequence[str], record: bytes) -> None:
        """Keep for later sessions how a part of the model was placed."""
        if self._placements is not None and self._may_store("placements"):
            self._placements.put(digest_of(self._model_key(), *words), record)

    def _model_key(self) -> str:
        if not self._fingerprint:
            from mace_core.graph.serialize import graph_fingerprint

            self._fingerprint = graph_fingerprint(self.graph)
        return self._fingerprint

    def _blob_key(self, device: SessionDevice, views: Sequence[GraphView]) -> str:
        words = [self._model_key(), device.name, device.provider_code, device.options_key]
        return digest_of(*words, *view_words(views))


def _release_consumed(view: GraphView, compiled: CompiledSubgraph) -> None:
    """Give the pages of weights that the provider holds in a form of its own back to the system.

    They stay in the model, whose file they are read from again by who needs them: another signature, another device.
    """
    consumed = compiled.consumed_constants
    if not consumed:
        return
    for node in view.nodes:
        for value in node.inputs:
            if value is not None and value.constant is not None and value.name in consumed:
                release_pages(value.constant.payload)


def _names(views: Sequence[GraphView]) -> tuple[str, ...]:
    return tuple(node.name for view in views for node in view.nodes)
