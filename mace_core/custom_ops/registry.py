"""The operators registered in this process, and those that installed packages publish."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable

from mace_core.custom_ops.definition import CustomOp

ENTRY_POINT_GROUP = "mace.custom_ops"

_log = logging.getLogger("mace.custom_ops")
_lock = threading.Lock()
_ops: dict[tuple[str, str], CustomOp] = {}
_asked: dict[str, str] = {}
"""Domains whose packages were looked for, with what went wrong ("" where nothing did)."""


def register(op: CustomOp) -> None:
    """Make an operator known, in the place of one of the same name."""
    with _lock:
        replaced = _ops.get((op.domain, op.op_type))
        _ops[op.domain, op.op_type] = op
    if replaced is not None and replaced.origin != op.origin:
        _log.info("%s is now %s, before it was %s", op.qualified_name, op.origin, replaced.origin)


def unregister(domain: str, op_type: str) -> None:
    """Forget an operator; sessions that exist keep it."""
    with _lock:
        _ops.pop((domain, op_type), None)


def registered_ops() -> list[CustomOp]:
    """All operators registered so far, by name."""
    with _lock:
        return sorted(_ops.values(), key=lambda op: op.qualified_name)


def find_custom_op(domain: str, op_type: str) -> CustomOp | None:
    """The operator, if it is registered."""
    return _ops.get((domain, op_type))


def load_custom_ops(domains: Iterable[str]) -> dict[str, str]:
    """Import what installed packages publish for these domains (once per process and domain).

    Returns:
        Domain -> why its package could not be imported, for those where it could not.
    """
    problems = {}
    for domain in dict.fromkeys(domains):
        if domain not in _asked:
            _asked[domain] = _import_published(domain)
        if _asked[domain]:
            problems[domain] = _asked[domain]
    return problems


def _import_published(domain: str) -> str:
    from mace_core.host.entry_points import describe, discover, load, trace

    problem = ""
    for entry in discover(ENTRY_POINT_GROUP):
        if entry.name != domain:
            continue
        trace(f"custom operators of {domain}: importing {entry.value} from {entry.provenance}")
        try:
            load(entry)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a package may raise anything on import, SystemExit included
            problem = f"the package that publishes it ({entry.provenance}) cannot be imported: {describe(error)}"
            _log.warning("custom operators of %s: %s", domain, problem)
    return problem
