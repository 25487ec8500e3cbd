"""Fixtures: the stand-in for MediaTek's library, built from C, and its device."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for apu_support

from apu_support import StandIn, build, compiler, open_backend
from mace_apu.backend import ApuBackend
from mace_apu.provider import ApuProvider

from mace_core.provider import Device


@pytest.fixture(scope="session")
def stand_in_folder() -> Path:
    """The folder of the stand-in."""
    if not sys.platform.startswith("linux"):
        pytest.skip("the stand-in is built for Linux")
    if compiler() is None:
        pytest.skip("no C compiler is here to build the stand-in (cc, gcc or clang)")
    return build()


@pytest.fixture
def stand_in(stand_in_folder: Path, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """The stand-in, where the provider finds it."""
    monkeypatch.setenv("MACE_NEURON_LIB_DIR", str(stand_in_folder))
    return StandIn(stand_in_folder)


@pytest.fixture
def device(stand_in: StandIn) -> Device:
    """Its device."""
    (found,) = ApuProvider().probe().devices
    return found


@pytest.fixture
def backend(device: Device) -> Iterator[ApuBackend]:
    """The same, open."""
    opened = open_backend(device)
    yield opened
    opened.close()
