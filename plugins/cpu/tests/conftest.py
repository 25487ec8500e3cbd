"""What tests of the CPU provider share.

`harness` is importable, each kernel is translated once however many instruction sets it is tested for, and a kernel
that dies outside its memory says of what.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from mace_testing.memory_faults import memory_faults_told

from mace_core.native import numba_kernel

sys.path.insert(0, str(Path(__file__).parent))

_translated = functools.cache(numba_kernel.translated)


@pytest.fixture(autouse=True, scope="module")
def translated_once() -> Iterator[None]:
    """What numba does to a kernel is the same for every target and takes most of the time of building it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(numba_kernel, "translated", _translated)
        yield


@pytest.fixture(autouse=True)
def same_numbers_alone_and_among_others() -> None:
    drawing = sys.modules.get("quantized_graphs")
    if drawing is not None:
        drawing.start_again()


@pytest.fixture(autouse=True, scope="module")
def memory_faults(request: pytest.FixtureRequest) -> Iterator[None]:
    """The process dies of what `harness` finds with guarded pages: what it touched is told where pytest tells of it."""
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        stderr = os.dup(2)
    try:
        with memory_faults_told(lambda told: os.write(stderr, f"\n{told}\n".encode())):
            yield
    finally:
        os.close(stderr)
