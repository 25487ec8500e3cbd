"""Makes `harness` importable, and has each kernel translated once, however many instruction sets it is tested for."""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mace_core.native import numba_kernel

sys.path.insert(0, str(Path(__file__).parent))

_translated = functools.cache(numba_kernel.translated)


@pytest.fixture(autouse=True, scope="module")
def translated_once() -> Iterator[None]:
    """What numba does to a kernel is the same for every target and takes most of the time of building it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(numba_kernel, "translated", _translated)
        yield
