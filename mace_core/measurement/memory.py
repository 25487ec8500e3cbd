"""What a process that runs a model holds in memory, and since when: files, code, arenas, Python.

    with MemoryObserver("model.onnx", ["model.onnx"]) as observer:
        found = observe_memory(observer, lambda: Session("model.onnx"), feeds_of, runs=20)

The figures are those of the whole process that calls; `mace memory` calls it in a process of its own.
"""

from __future__ import annotations

import gc
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mace_core.host.smaps import MappedRange, mapped_ranges, most_resident_bytes, resident_bytes

if TYPE_CHECKING:
    from mace_core.session import Session

PERIOD_SECONDS = 0.01
"""Between two looks at the resident memory."""

KINDS = (
    "model files",
    "prepared weights and kernels",
    "generated code",
    "compiler (LLVM)",
    "numpy and BLAS",
    "other libraries",
    "heap and anonymous memory",
    "stacks",
    "other files",
)
"""What a mapping may be for, in the order in which tables show it."""

_LARGE_ARRAY = 16 << 10
"""Bytes from which an array counts among those that the process holds."""


@dataclass(frozen=True, slots=True)
class KindUse:
    """Memory of one kind, in bytes; see `mace_core.host.smaps.MappedRange`."""

    pss: int = 0
    rss: int = 0
    private: int = 0
    shared: int = 0
    swap: int = 0

    def plus(self, each: MappedRange | KindUse) -> KindUse:
        """Both together."""
        return KindUse(
            self.pss + each.pss,
            self.rss + each.rss,
            self.private + each.private,
            self.shared + each.shared,
            self.swap + each.swap,
        )


@dataclass(frozen=True, slots=True)
class Moment:
    """The process at one moment.

    Attributes:
        name: what had just ended: "load", "first run", …
        seconds: since the observation began.
        kinds: memory by kind.
        arena_bytes: of the arenas that runs on the host work in: a part of the anonymous memory.
        array_bytes: of large arrays but arenas and the caller's inputs: weights prepared in this process, tables,
            results; a part of the anonymous memory too.
    """

    name: str
    seconds: float
    kinds: Mapping[str, KindUse]
    arena_bytes: int = 0
    array_bytes: int = 0

    @property
    def total(self) -> KindUse:
        """All kinds together."""
        found = KindUse()
        for each in self.kinds.values():
            found = found.plus(each)
        return found


@dataclass(slots=True)
class MemoryReport:
    """What was observed.

    Attributes:
        model: as messages call it.
        moments: at the end of each phase.
        samples: seconds since the beginning, and resident bytes.
        marks: when which phase began.
        steady: resident bytes after each of the steady runs.
        most_resident_bytes: of the whole life of the process.
        weight_bytes: of all constants of the model as its file stores them.
        arenas: bytes by location, and the least that any plan would need.
        has_compiled: whether kernels were compiled, which loads the compiler.
        has_details: whether the system tells what mappings hold; else there is one kind only.
    """

    model: str
    moments: list[Moment] = field(default_factory=list)
    samples: list[tuple[float, int]] = field(default_factory=list)
    marks: list[tuple[float, str]] = field(default_factory=list)
    steady: list[int] = field(default_factory=list)
    most_resident_bytes: int = 0
    weight_bytes: int = 0
    arenas: dict[str, tuple[int, int]] = field(default_factory=dict)
    has_compiled: bool = False
    has_details: bool = True

    @property
    def growth_bytes(self) -> int:
        """By how much the second half of the steady runs grew: what never ends growing is a leak."""
        return self.steady[-1] - self.steady[len(self.steady) // 2] if len(self.steady) > 1 else 0

    def as_data(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        data = asdict(self)
        data["arenas"] = {name: list(sizes) for name, sizes in self.arenas.items()}
        for entry, moment in zip(data["moments"], self.moments, strict=True):
            entry["total"] = asdict(moment.total)
        return {**data, "growth_bytes": self.growth_bytes}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> MemoryReport:
        """What `as_data` made data of."""
        moments = [
            Moment(
                each["name"],
                each["seconds"],
                {name: KindUse(**use) for name, use in each["kinds"].items()},
                each["arena_bytes"],
                each["array_bytes"],
            )
            for each in data["moments"]
        ]
        return cls(
            data["model"],
            moments,
            [(seconds, size) for seconds, size in data["samples"]],
            [(seconds, text) for seconds, text in data["marks"]],
            list(data["steady"]),
            data["most_resident_bytes"],
            data["weight_bytes"],
            {name: (size, least) for name, (size, least) in data["arenas"].items()},
            data["has_compiled"],
            data["has_details"],
        )


class MemoryObserver:
    """Looks at the process while phases begin and end; a thread samples its resident memory in between."""

    def __init__(self, model: str, files: Sequence[str | Path] = ()) -> None:
        """``files``: of the model, the file and what lies beside it with its weights."""
        self.report = MemoryReport(model, has_details=bool(mapped_ranges()))
        self.session: Session | None = None
        self.feeds: Mapping[str, Any] = {}
        self._files = [Path(path).resolve() for path in files]
        self._start = time.perf_counter()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="mace-memory-samples", daemon=True)

    def __enter__(self) -> MemoryObserver:
        self._thread.start()
        return self

    def __exit__(self, *ended: object) -> None:
        self._done.set()
        self._thread.join()
        self.report.most_resident_bytes = max([most_resident_bytes(), *(size for _, size in self.report.samples)])

    def begin(self, name: str) -> None:
        """A phase begins."""
        self.report.marks.append((self._now(), name))
        self._sample()

    def end(self, name: str) -> None:
        """It has ended: everything that the process holds now is looked at."""
        gc.collect()
        self._sample()
        ranges = mapped_ranges()
        seconds = self._now()
        kinds: dict[str, KindUse] = {}
        for each in ranges:
            kind = self._kind(each)
            kinds[kind] = kinds.get(kind, KindUse()).plus(each)
        if not ranges:
            kinds["heap and anonymous memory"] = KindUse(rss=resident_bytes(), pss=resident_bytes())
        ordered = {kind: kinds[kind] for kind in KINDS if kind in kinds}
        arena = 0 if self.session is None else self.session.arena_bytes
        arrays = 0 if "numpy" not in sys.modules else held_array_bytes(self.feeds) - arena
        self.report.moments.append(Moment(name, seconds, ordered, arena, max(0, arrays)))

    def _kind(self, each: MappedRange) -> str:
        if each.path.startswith("[") or not each.path or each.path.startswith(("/dev/zero", "/memfd:", "anon_inode")):
            if each.path.startswith("[stack") or (each.path == "" and each.permissions == "---p"):
                return "stacks"
            if each.path in ("[vdso]", "[vvar]", "[vsyscall]"):
                return "other libraries"
            return "generated code" if each.is_executable else "heap and anonymous memory"
        path = Path(each.path)
        if path in self._files:
            return "model files"
        if _is_within_cache(path):
            return "prepared weights and kernels"
        name = path.name
        if ".so" in name or each.is_executable:
            if "llvm" in name.lower():
                return "compiler (LLVM)"
            is_numpy = any(part in ("numpy", "numpy.libs") for part in path.parts)
            return "numpy and BLAS" if is_numpy or "openblas" in name.lower() else "other libraries"
        return "other files"

    def _now(self) -> float:
        return time.perf_counter() - self._start

    def _sample(self) -> None:
        self.report.samples.append((self._now(), resident_bytes()))

    def _watch(self) -> None:
        while not self._done.wait(PERIOD_SECONDS):
            self._sample()


def observe_memory(
    observer: MemoryObserver,
    open_session: Callable[[], Session],
    feeds_of: Callable[[Session], Mapping[str, Any]],
    *,
    runs: int = 20,
) -> MemoryReport:
    """Open a session, run it, close it, and look at the process after each step.

    Args:
        observer: entered; it may have phases already, of what was imported before.
        open_session: gives the session.
        feeds_of: an array for every input of it.
        runs: after the first one.

    Raises:
        MaceError: as opening and running the session does.
    """
    report = observer.report
    observer.begin("load")
    observer.session = session = open_session()
    try:
        observer.end("load")
        observer.begin("inputs")
        feeds = observer.feeds = feeds_of(session)
        observer.end("inputs")
        observer.begin("compile")
        session.prepare({name: value.shape for name, value in feeds.items()})
        observer.end("compile")
        observer.begin("first run")
        session.run(feeds)
        observer.end("first run")
        observer.begin("steady runs")
        for _ in range(runs):
            session.run(feeds)
            report.steady.append(resident_bytes())
        observer.end("steady runs")
        for arena in session.explain().arenas:
            report.arenas[arena.location] = (arena.nbytes, arena.lower_bound_bytes)
    finally:
        observer.begin("close")
        session.close()
        observer.session = None
    del session
    observer.end("close")
    report.has_compiled = "llvmlite.binding" in sys.modules
    return report


def held_array_bytes(besides: Mapping[str, Any]) -> int:
    """Bytes of all large arrays that own their memory or lie in a mapping of anonymous memory, but for these."""
    import mmap

    import numpy as np

    seen = {id(array) for array in besides.values()}
    total = 0
    waiting: list[Any] = []
    for each in gc.get_objects():
        for found in gc.get_referents(each):
            kind = type(found)  # isinstance would ask what a weak proxy stands for, which may be gone
            if issubclass(kind, np.ndarray):
                waiting.append(found)
            elif issubclass(kind, dict | tuple) and not gc.is_tracked(found):  # of what has no references to objects
                waiting += [item for item in gc.get_referents(found) if issubclass(type(item), np.ndarray)]
    while waiting:
        array = waiting.pop()
        if id(array) in seen:
            continue
        seen.add(id(array))
        base = array.base
        if isinstance(base, np.ndarray):
            waiting.append(base)
            continue
        is_own = base is None or (isinstance(base, mmap.mmap) and _is_anonymous(base))
        if is_own and array.nbytes >= _LARGE_ARRAY and array.dtype != object:
            total += array.nbytes
    return total


def _is_anonymous(pages: Any) -> bool:
    """Whether a mapping has no file: those that MACE maps from files are not written to."""
    try:
        return not memoryview(pages).readonly
    except (ValueError, BufferError):
        return False


def _is_within_cache(path: Path) -> bool:
    from mace_core.caching.cache import cache_dir

    folder = cache_dir()
    return path.is_relative_to(folder) or path.is_relative_to(folder.resolve())
