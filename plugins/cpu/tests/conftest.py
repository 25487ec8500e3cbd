"""Makes `harness` importable and keeps compiled kernels out of the user's cache."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


def pytest_configure(config: pytest.Config) -> None:
    if "MACE_CACHE_DIR" not in os.environ and config.cache is not None:
        os.environ["MACE_CACHE_DIR"] = str(config.cache.mkdir("mace-kernels"))
