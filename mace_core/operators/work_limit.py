"""How much one node may compute: what a stranger's file asks for is known before it is begun."""

from __future__ import annotations

import math
import os

from mace_core.errors import UsageError

WORK_LIMIT_VARIABLE = "MACE_WORK_LIMIT"
DEFAULT_WORK_LIMIT = 10**14
"""About half an hour of a fast processor for one node: attention of 32 heads of 128 over 100,000 tokens takes less."""


def work_limit() -> int:
    """Elementary operations that one node may take: multiply-accumulates, or elements that are written or looked at.

    Raises:
        UsageError: if the environment variable is not a positive number.
    """
    given = os.environ.get(WORK_LIMIT_VARIABLE, "").strip()
    if not given:
        return DEFAULT_WORK_LIMIT
    try:
        limit = float(given)
    except ValueError:
        limit = math.nan
    if not limit >= 1:
        raise UsageError(f"{WORK_LIMIT_VARIABLE} must be a positive number of operations, such as 1e12, not '{given}'")
    return int(limit) if math.isfinite(limit) else 1 << 200
