"""Weights in the form that a device reads: each content once in a process, and once in the cache folder.

A provider packs weights for its kernels.  Whoever holds such an array through `shared` or `shared_form` holds the same
one as all others with equal content: other input shapes, other sessions, other numbers of threads.  It is freed when
the last of them lets go.  In the cache folder the arrays of a model lie apart from what is compiled for one signature,
and a stored subgraph refers to them (`WeightFiles`).

Arrays are told apart by the SHA-256 of their bytes.  So it does not matter where the content comes from, at which
address it lies and what it was multiplied by.
"""

from __future__ import annotations

import contextlib
import contextvars
import hashlib
import json
import logging
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from mace_core.errors import UnsupportedError
from mace_core.host.fork_safe import fork_safe_lock
from mace_core.host.mapping import FileMapping
from mace_core.provider.memory import ALIGNMENT_BYTES
from mace_core.tensor.files import release_pages

_log = logging.getLogger("mace")

SHARED_FROM_BYTES = 64 << 10
"""Arrays smaller than this are not worth a place of their own."""

Array = npt.NDArray[Any]
Bytes = npt.NDArray[np.uint8]


class SharedArray:
    """Bytes that nobody changes, and that all in this process share who hold equal ones.

    Attributes:
        data: flat and read-only; begins at a multiple of 64 bytes.
        digest: the SHA-256 of the bytes.
    """

    __slots__ = ("__weakref__", "data", "digest")

    def __init__(self, data: Bytes, digest: bytes) -> None:
        self.data = data
        self.digest = digest

    @property
    def address(self) -> int:
        """Where the first byte is."""
        return int(self.data.ctypes.data)

    @property
    def nbytes(self) -> int:
        """The size in bytes."""
        return self.data.nbytes


_arrays: weakref.WeakValueDictionary[bytes, SharedArray] = weakref.WeakValueDictionary()
_lock = fork_safe_lock()


def shared(array: Array, *, is_mine: bool = False) -> SharedArray:
    """The shared array with the content of ``array``.

    Args:
        array: plain numbers.
        is_mine: it was made for this, so that nobody else can change it: it need not be copied.
    """
    data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    digest = hashlib.sha256(data.data).digest()
    found = _arrays.get(digest)
    if found is not None:
        return found
    files = _files.get()
    stored = None if files is None else files.find(digest)
    if stored is not None:
        return _interned(stored, digest)
    if not is_mine or data.ctypes.data % ALIGNMENT_BYTES:
        data = _aligned_copy(data)
    return _interned(data, digest)


def shared_form(source: Array, way: tuple[object, ...], make: Callable[[], Array]) -> SharedArray:
    """The shared array with what ``make`` gives, which is not called where that is there already.

    Args:
        source: what the form is made of.  What was made is found again where this lies in memory that cannot change: a
            mapped file, or ``bytes``.
        way: all that ``make`` depends on besides ``source``; hashable.
        make: gives an array that nobody else will change.
    """
    forms = _forms_of(source)
    if forms is None:
        return shared(make(), is_mine=True)
    key = (source.ctypes.data, source.shape, source.strides, source.dtype.str, *way)
    found = forms.get(key)
    if found is None:
        found = forms[key] = shared(make(), is_mine=True)
        release_pages(source)  # else all the file would be in memory beside the forms before the last one is made
    return found


def adopt(data: Bytes, digest: str) -> SharedArray:
    """The shared array with a digest that is known: the one there is, or ``data``, which nobody will change.

    Args:
        data: begins at a multiple of 64 bytes.
        digest: `SharedArray.digest` as hexadecimal digits.
    """
    return _interned(data, bytes.fromhex(digest))


def _interned(data: Bytes, digest: bytes) -> SharedArray:
    """The array there is for a content, or a new one."""
    with _lock:
        found = _arrays.get(digest)
        if found is None:
            view = data.view()
            view.flags.writeable = False
            found = _arrays[digest] = SharedArray(view, digest)
        return found


def _aligned_copy(data: Bytes) -> Bytes:
    owner = np.empty(data.nbytes + ALIGNMENT_BYTES, np.uint8)
    start = -owner.ctypes.data % ALIGNMENT_BYTES
    copy = owner[start : start + data.nbytes]
    copy[:] = data
    return copy


# --- what forms were made of one place in memory ----------------------------------------------------------------------


class _Source(NamedTuple):
    """Memory that cannot change, and the forms that were made of parts of it."""

    memory: weakref.ref[Any]
    forms: weakref.WeakValueDictionary[tuple[object, ...], SharedArray]


_sources: dict[int, _Source] = {}
"""By the id of the memory, as long as that is there: an address means something else afterwards."""


def _forms_of(array: Array) -> weakref.WeakValueDictionary[tuple[object, ...], SharedArray] | None:
    memory = _unchanging_memory(array)
    if memory is None:
        return None
    number = id(memory)
    with _lock:
        found = _sources.get(number)
        if found is None or found.memory() is not memory:

            def forget(gone: weakref.ref[Any]) -> None:
                known = _sources.get(number)
                if known is not None and known.memory is gone:
                    del _sources[number]

            found = _sources[number] = _Source(weakref.ref(memory, forget), weakref.WeakValueDictionary())
        return found.forms


def _unchanging_memory(array: Array) -> Any:
    """The object that holds the bytes of ``array``, or stands for them, where these cannot change; else None."""
    while isinstance(array.base, np.ndarray):
        if array.flags.writeable:
            return None
        array = array.base
    owner: Any = array.base
    while isinstance(owner, memoryview):
        owner = owner.obj
    if isinstance(owner, FileMapping):
        return owner
    return array if isinstance(owner, bytes) and not array.flags.writeable else None


# --- the cache folder -------------------------------------------------------------------------------------------------


class WeightPlace(NamedTuple):
    """Where an array lies in the cache folder.

    Attributes:
        digest: of its bytes, as hexadecimal digits.
        nbytes: its size.
        pack: the entry in which it lies.
        offset: where in it.
    """

    digest: str
    nbytes: int
    pack: str
    offset: int


class Packs(Protocol):
    """Where packs lie: `mace_core.caching.mapped.MappedCache`, or a package."""

    def has(self, key: str) -> bool:
        """Whether there is a pack of this name."""

    def put_parts(self, key: str, parts: Sequence[bytes | memoryview]) -> bool:
        """Store a pack; False where that cannot be."""

    def view(self, key: str, *, mmap: bool = True) -> memoryview | None:
        """A pack, where it lies; None where it is not there."""


class Index(Protocol):
    """Where the index of a model lies: `mace_core.caching.cache.CheckedCache`, or a package."""

    def get(self, key: str) -> bytes | None:
        """What was put under this name."""

    def put(self, key: str, payload: bytes) -> None:
        """Keep a text under this name."""


class WeightFiles:
    """The arrays of one model in the cache folder, or in a package.

    They lie in packs: each holds what one call of `keep` found missing.  An index says which arrays there are.  Two
    processes that store at the same moment may write an array twice; that is all that can go wrong.
    """

    def __init__(self, packs: Packs, index: Index, model_key: Callable[[], str], *, mmap: bool = True) -> None:
        """``mmap``: arrays are used where they lie in their file, else they are read into memory."""
        self._packs = packs
        self._index = index
        self._model_key = model_key
        self._mmap = mmap
        self._places: dict[str, WeightPlace] | None = None
        self._opened: weakref.WeakValueDictionary[str, Bytes] = weakref.WeakValueDictionary()

    def keep(self, arrays: Sequence[SharedArray]) -> list[WeightPlace] | None:
        """Store what is not stored yet.

        Returns:
            The place of each array; None where they cannot be stored.
        """
        places = self._places = self._read_index()
        is_there = {pack: self._packs.has(pack) for pack in {place.pack for place in places.values()}}
        missing = {
            array.digest: array
            for array in arrays
            if (place := places.get(array.digest.hex())) is None or not is_there[place.pack]
        }
        if missing and not self._store(list(missing.values()), places):
            return None
        return [places[array.digest.hex()] for array in arrays]

    def restore(self, places: Sequence[WeightPlace]) -> list[SharedArray]:
        """The arrays that `keep` stored.

        Raises:
            UnsupportedError: if some are not there any more.
        """
        found = []
        for place in places:
            digest = bytes.fromhex(place.digest)
            array = _arrays.get(digest)
            if array is None:
                data = self._read(place)
                if data is None:
                    raise UnsupportedError("weights that a stored subgraph refers to are not in the cache any more")
                array = _interned(data, digest)
            found.append(array)
        return found

    def find(self, digest: bytes) -> Bytes | None:
        """The array with this digest, if it is stored."""
        if self._places is None:
            self._places = self._read_index()
        place = self._places.get(digest.hex())
        return None if place is None else self._read(place)

    def _store(self, arrays: Sequence[SharedArray], places: dict[str, WeightPlace]) -> bool:
        pack = f"weights {hashlib.sha256(b''.join(array.digest for array in arrays)).hexdigest()}"
        parts: list[bytes | memoryview] = []
        offset = 0
        for array in arrays:
            digest = array.digest.hex()
            places[digest] = WeightPlace(digest, array.nbytes, pack, offset)
            gap = -array.nbytes % ALIGNMENT_BYTES
            parts += (array.data.data, bytes(gap))
            offset += array.nbytes + gap
        if not self._packs.has(pack) and not self._packs.put_parts(pack, parts):
            return False
        self._index.put(self._model_key(), json.dumps(list(places.values())).encode())
        return True

    def _read(self, place: WeightPlace) -> Bytes | None:
        content = self._opened.get(place.pack)
        if content is None:
            entry = self._packs.view(place.pack, mmap=self._mmap)
            if entry is None:
                return None
            content = self._opened[place.pack] = np.frombuffer(entry, np.uint8)
        data = content[place.offset : place.offset + place.nbytes]
        return data if data.nbytes == place.nbytes and data.ctypes.data % ALIGNMENT_BYTES == 0 else None

    def _read_index(self) -> dict[str, WeightPlace]:
        entry = self._index.get(self._model_key())
        if entry is None:
            return {}
        try:
            rows = [WeightPlace(*row) for row in json.loads(entry)]
        except (ValueError, TypeError) as error:
            _log.info("the index of stored weights cannot be read (%s)", error)
            return {}
        return {row.digest: row for row in rows}


_files: contextvars.ContextVar[WeightFiles | None] = contextvars.ContextVar("weight_files", default=None)


def weight_files() -> WeightFiles | None:
    """Where a backend that is asked to compile, to store or to restore keeps its weights in the cache folder.

    None where nothing is to be cached: then a stored form holds the weights itself.
    """
    return _files.get()


@contextlib.contextmanager
def using_weight_files(files: WeightFiles | None) -> Iterator[None]:
    """What `weight_files` answers in the body."""
    token = _files.set(files)
    try:
        yield
    finally:
        _files.reset(token)
