"""Whole networks on the stand-in, against the CPU provider."""

from __future__ import annotations

import numpy as np
import pytest
from apu_support import SHAPE, small_network

from mace_core.provider import Device
from mace_core.session import Session
from mace_core.testing.models import sample_image


@pytest.mark.parametrize(("precision", "tolerance"), [("float16", 5e-3), ("float32", 1e-5)])
def test_a_small_network_runs_whole(device: Device, precision: str, tolerance: float) -> None:
    feeds = {"x": sample_image(SHAPE)}
    with Session(small_network(), devices=["cpu"], cache=False) as session:
        (expected,) = session.run(feeds).values()
    options = {"apu": {"precision": precision}}
    with Session(
        small_network(), devices=[device.qualified_name], strict=True, cache=False, options=options
    ) as session:
        (found,) = session.run(feeds).values()
        assert session.explain().nodes_per_device.keys() == {"apu:stand-in"}
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * float(np.ptp(expected)))
