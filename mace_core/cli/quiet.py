"""For commands whose own output already shows what the plugin log would say."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator


@contextlib.contextmanager
def plugin_log_quiet() -> Iterator[None]:
    """Hold back warnings about plugins while the body runs (``--debug`` and ``--verbose`` still show them)."""
    logger = logging.getLogger("mace.plugins")
    before = logger.level
    if logging.getLogger("mace").level >= logging.WARNING:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
