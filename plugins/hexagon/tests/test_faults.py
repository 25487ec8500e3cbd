"""What happens when the library fails: its codes are injected where it would return them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hexagon_support import small_network
from mace_hexagon.qnn import handles

from mace_core.errors import OutOfMemoryError
from mace_core.provider import Device
from mace_core.session import Session
from mace_core.testing.models import sample_image

SHAPE = (1, 3, 20, 18)
MEM_ALLOC = 1002
SYSTEM_COMMUNICATION = 1007

Fail = Callable[[str, int], None]


@pytest.fixture
def fail(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Fail:
    """``fail(function, code)``: from now on this function of the library returns ``code``; 0 mends it.

    The cache is empty, so that everything is compiled.
    """
    monkeypatch.setenv("MACE_CACHE_DIR", str(tmp_path))
    codes: dict[str, int] = {}
    original = handles.QnnDevice.call

    def call(self: handles.QnnDevice, doing: str, function: str, *arguments: object) -> None:
        if codes.get(function):
            raise self.interface.error(codes[function], doing, device=self.name)
        original(self, doing, function, *arguments)

    monkeypatch.setattr(handles.QnnDevice, "call", call)
    return codes.__setitem__


def test_a_run_in_the_middle_of_which_the_device_is_lost_goes_on_elsewhere(device: Device, fail: Fail) -> None:
    feeds = {"x": sample_image(SHAPE)}
    with Session(small_network(), devices=[device.qualified_name, "cpu"]) as session:
        (expected,) = session.run(feeds).values()
        assert session.explain().nodes_per_device.keys() == {device.qualified_name}
        fail("graphExecute", SYSTEM_COMMUNICATION)
        (found,) = session.run(feeds).values()
        placement = session.explain()
    assert placement.nodes_per_device.keys() == {"cpu:0"}
    assert "SYSTEM_COMMUNICATION" in placement.refused[device.qualified_name]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-2 * float(np.ptp(expected)))


def test_no_memory_for_a_graph_places_its_nodes_elsewhere_and_says_why(device: Device, fail: Fail) -> None:
    fail("graphFinalize", MEM_ALLOC)
    with Session(small_network(), devices=[device.qualified_name, "cpu"]) as session:
        session.run({"x": sample_image(SHAPE)})
        placement = session.explain()
    assert placement.nodes_per_device.keys() == {"cpu:0"}
    assert all("MEM_ALLOC" in entry.declined[device.qualified_name] for entry in placement.nodes)


def test_no_memory_for_a_run_is_one_clear_error_and_the_session_stays_usable(device: Device, fail: Fail) -> None:
    feeds = {"x": sample_image(SHAPE)}
    with Session(small_network(), devices=[device.qualified_name], strict=True) as session:
        (expected,) = session.run(feeds).values()
        fail("graphExecute", MEM_ALLOC)
        with pytest.raises(OutOfMemoryError, match="Memory allocation"):
            session.run(feeds)
        fail("graphExecute", 0)
        (found,) = session.run(feeds).values()
    np.testing.assert_array_equal(found, expected)
