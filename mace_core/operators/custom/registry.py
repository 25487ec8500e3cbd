"""The operators registered in this process, and those that installed packages publish."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable

from mace_core.operators.custom.definition import CustomOp
from mace_core.operators.packages import CUSTOM_GROUP, import_published

_log = logging.getLogger("mace.custom_ops")
_lock = threading.Lock()
_ops: dict[tuple[str, str], CustomOp] = {}


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
    found = {domain: import_published(CUSTOM_GROUP, domain) for domain in dict.fromkeys(domains)}
    return {domain: problem for domain, problem in found.items() if problem}
