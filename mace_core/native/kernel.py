"""Kernels: from a description to a callable address, through the cache of checked object code."""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import os
import struct
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import llvmlite

from mace_core.caching.cache import CheckedCache
from mace_core.host.fork_safe import unforked
from mace_core.native.errors import KernelError
from mace_core.native.image import CodeImage
from mace_core.native.loader import check_object, link_objects, load_prelinked, prelink
from mace_core.native.source import KernelSource
from mace_core.native.target import Target, host_target
from mace_core.progress import report

_LOG = logging.getLogger("mace.native")
_LENGTH = struct.Struct("<I")

_lock = threading.RLock()
_loaded: dict[tuple[str, str, str], int] = {}
_images: dict[tuple[str, str, str], bytes] = {}
"""The object code of what is in `_loaded`, a few kilobytes each, to be stored with the plans that use it."""
_unpacked: dict[bytes, dict[str, int]] = {}
"""What `load_packed` has loaded: code is never unloaded, so the same must not be loaded twice."""


def _after_fork_in_child() -> None:
    """A lock held by a thread that the child does not have would never be released."""
    global _lock
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def load_kernels(
    sources: Sequence[KernelSource],
    target: Target | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, int]:
    """Addresses of kernels by symbol; they stay valid until the process ends.

    Args:
        sources: what is needed; the same kernel may be named more than once.
        target: what the code may use; by default `host_target()`.
        progress: called as ``progress(done, total)`` while kernels that were not in the cache are built; by default
            `mace_core.progress.report` is told.

    Raises:
        KernelError: a kernel cannot be built, or it refers to a function that kernels may not call.
    """
    with unforked():
        chosen = host_target() if target is None else target
    with unforked(), _lock:
        wanted = {source.symbol: source for source in sources}
        keys = {symbol: (symbol, source.version, chosen.key) for symbol, source in wanted.items()}
        absent = [source for symbol, source in wanted.items() if keys[symbol] not in _loaded]
        if absent:
            objects = _objects(absent, chosen, progress)
            addresses = link_objects(absent, objects)
            for symbol, address in addresses.items():
                _loaded[keys[symbol]] = address
                _images[keys[symbol]] = objects[symbol]
        return {symbol: _loaded[key] for symbol, key in keys.items()}


def build_kernels(
    sources: Sequence[KernelSource],
    target: Target,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, bytes]:
    """Object code of kernels by symbol, for a processor that need not be this one; nothing is loaded.

    It comes from the cache, or is built by several processes at once, as for `load_kernels`, which has the arguments.

    Raises:
        KernelError: a kernel cannot be built, or it refers to a function that kernels may not call.
    """
    with unforked(), _lock:
        return _objects(list({source.symbol: source for source in sources}.values()), target, progress)


def pack_kernels(sources: Sequence[KernelSource], target: Target | None = None) -> bytes | None:
    """Kernels that `load_kernels` has loaded, as bytes for `load_packed`; None if it has not loaded all of them.

    Where this process can, they are linked already, so that loading them takes neither LLVM nor a look at each.
    """
    chosen = host_target() if target is None else target
    wanted = list({source.symbol: source for source in sources}.values())
    with _lock:
        objects = {s.symbol: image for s in wanted if (image := _images.get((s.symbol, s.version, chosen.key)))}
    if len(objects) < len(wanted):
        return None
    linked = prelink(wanted, objects)
    if linked is not None:
        header: dict[str, object] = {"symbols": linked.symbols, "imports": linked.imports}
        parts = [linked.content]
    else:
        header = {"objects": [[s.symbol, s.version, sorted(s.imports), len(objects[s.symbol])] for s in wanted]}
        parts = [objects[source.symbol] for source in wanted]
    text = json.dumps(header).encode()
    return b"".join((_LENGTH.pack(len(text)), text, *parts))


def load_packed(packed: bytes) -> dict[str, int]:
    """Addresses of the kernels that `pack_kernels` packed; they stay valid until the process ends.

    Raises:
        KernelError: this process cannot load them.
        ValueError, KeyError: ``packed`` is damaged.
    """
    digest = hashlib.blake2b(packed, digest_size=16).digest()
    with unforked(), _lock:
        if digest not in _unpacked:
            _unpacked[digest] = _load_packed(packed)
        return _unpacked[digest]


def _load_packed(packed: bytes) -> dict[str, int]:
    (length,) = _LENGTH.unpack_from(packed)
    start = _LENGTH.size + length
    header = json.loads(packed[_LENGTH.size : start])
    if "symbols" in header:
        addresses = load_prelinked(CodeImage(packed[start:], header["symbols"], header["imports"]))
        if addresses is None:
            raise KernelError("the stored code cannot be loaded into this process")
        return addresses
    sources, objects = [], {}
    for symbol, version, imports, nbytes in header["objects"]:
        source = KernelSource(symbol, version, _no_source, frozenset(imports))
        objects[symbol] = check_object(source, packed[start : start + nbytes])
        sources.append(source)
        start += nbytes
    return link_objects(sources, objects)


def _no_source(target: Target) -> str:
    raise KernelError("a packed kernel has no source to build it from")


def object_cache() -> CheckedCache:
    """Where object code is kept."""
    return CheckedCache("kernels", f"{_generator()}-llvmlite{llvmlite.__version__}")


@functools.cache
def _generator() -> str:
    """Changes with the way kernels are compiled."""
    compiler = Path(__file__).with_name("compiler.py")  # not imported for this: it imports LLVM
    return hashlib.sha256(compiler.read_bytes()).hexdigest()[:16]


def cache_key(source: KernelSource, target: Target) -> str:
    """The name of a kernel's object code in the cache: symbol, version, and everything about the target."""
    return "|".join((source.symbol, source.version, target.key))


def _objects(
    sources: Sequence[KernelSource], target: Target, progress: Callable[[int, int], None] | None
) -> dict[str, bytes]:
    """Checked object code of each source, by symbol."""
    cache = object_cache()
    objects: dict[str, bytes] = {}
    missing = []
    for source in sources:
        cached = cache.get(cache_key(source, target))
        if cached is None:
            missing.append(source)
        else:
            objects[source.symbol] = check_object(source, cached)
    if missing:
        from mace_core.native.builder import build_objects

        def keep(source: KernelSource, image: bytes) -> None:
            objects[source.symbol] = check_object(source, image)
            cache.put(cache_key(source, target), image)

        _LOG.debug("Building %d kernels for %s.", len(missing), target.key)
        build_objects(missing, target, keep, progress or functools.partial(report, "compiling kernels"))
    return objects
