"""What providers give to be stored, and what that is worth to them later."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import NamedTuple

from mace_core.provider import Backend, CompiledSubgraph
from mace_core.provider.backend import Compatibility
from mace_core.provider.border import instance_of, list_of
from mace_core.scheduler.planning.devices import SessionDevice

_log = logging.getLogger("mace")

BLOB_ALIGNMENT = 64
"""A blob that is handed to a provider begins at a multiple of so many bytes."""


class StoredForm(NamedTuple):
    """Compiled subgraphs of one device as bytes.

    Attributes:
        compatibility: the device's `compatibility_key`.
        parts: form the blob when concatenated.
    """

    compatibility: str
    parts: list[memoryview]


class Restored(NamedTuple):
    """Subgraphs that need not be compiled.

    Attributes:
        subgraphs: in the order of the views.
        worth: what the provider says of the form that was stored.
        source: where it was, for people.
    """

    subgraphs: list[CompiledSubgraph]
    worth: Compatibility
    source: str = "the cache"


def stored_form(device: SessionDevice, compiled: Sequence[CompiledSubgraph]) -> StoredForm | None:
    """What the device gives to be stored; None where that is nothing, or a defect of it, which is logged."""
    backend = device.backend
    is_default = type(backend).serialize_parts is Backend.serialize_parts
    try:
        with device.calling("Backend.serialize" if is_default else "Backend.serialize_parts"):
            parts = device.answer("storing what it compiled", lambda: backend.serialize_parts(compiled))
            views = None if parts is None else [memoryview(part) for part in list_of(object, parts)]
        return None if views is None else StoredForm(compatibility_key(device), views)
    except Exception as error:  # what was compiled is good; only the next start is slower
        _log.warning("%s; what it compiled is not stored", error)
        return None


def stores(backend: Backend) -> bool:
    """Whether the backend has a form of compiled subgraphs to store."""
    kind = type(backend)
    return kind.serialize is not Backend.serialize or kind.serialize_parts is not Backend.serialize_parts


def compatibility_key(device: SessionDevice) -> str:
    """What the device's stored forms depend on.

    Raises:
        ProviderError: if it does not say.
    """
    with device.calling("Backend.compatibility_key"):
        return instance_of(str, device.backend.compatibility_key())


def worth_of(device: SessionDevice, key: str) -> Compatibility | None:
    """What a blob stored under ``key`` is worth to the device; None where that is nothing, or a defect of it, which is
    logged."""
    try:
        with device.calling("Backend.check_compatibility"):
            worth = instance_of(Compatibility, device.backend.check_compatibility(key))
    except Exception as error:
        _log.warning("%s; what is stored is not used", error)
        return None
    if worth in (Compatibility.OPTIMAL, Compatibility.USABLE):
        return worth
    _log.info("a stored compilation for %s is not used: the provider says %s", device.name, worth.value)
    return None
