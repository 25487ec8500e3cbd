"""Fixtures: the QNN libraries of this machine, an open emulated HTP."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from mace_hexagon import discovery
from mace_hexagon.backend import HexagonBackend
from mace_hexagon.provider import HexagonProvider

from mace_core.provider import Device

sys.path.insert(0, str(Path(__file__).parent))  # for hexagon_support

from hexagon_support import open_backend

EMULATED_ID = "v75"


@pytest.fixture(scope="session")
def library_folder() -> Path:
    """The folder of the QNN libraries."""
    found = discovery.search()
    if found.library is None:
        pytest.skip(f"no QNN libraries here: {found.missing[-1].reason}; {discovery.HINT}")
    if not discovery.is_emulation():
        pytest.skip("these tests use the emulated HTP, which QNN offers on x86-64 only")
    return found.library.parent


@pytest.fixture(scope="session")
def device(library_folder: Path) -> Device:
    """The emulated HTP v75."""
    return next(device for device in HexagonProvider().probe().devices if device.id == EMULATED_ID)


@pytest.fixture
def backend(device: Device) -> Iterator[HexagonBackend]:
    """The emulated HTP v75, open."""
    opened = open_backend(device)
    yield opened
    opened.close()
