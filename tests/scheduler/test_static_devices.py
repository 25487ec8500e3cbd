"""Devices that take one shape at a time beside one that takes symbolic sizes: each keeps the nodes that it claims."""

from __future__ import annotations

import numpy as np
import pytest
from mace_cpu.provider import CpuProvider
from scheduler_models import chain
from scheduler_stand_ins import StandInBackend, make_provider, registry_of

from mace_core.provider import ShapeSupport
from mace_core.session import Session


@pytest.mark.parametrize("support", [ShapeSupport.STATIC, ShapeSupport.BOUNDED, ShapeSupport.DYNAMIC])
@pytest.mark.parametrize("strict", [True, False])
def test_later_shapes_run_where_the_first_one_does(
    monkeypatch: pytest.MonkeyPatch, support: ShapeSupport, strict: bool
) -> None:
    monkeypatch.setattr(StandInBackend, "shape_support", support)
    registry = registry_of(make_provider("odd"), CpuProvider)
    with Session(chain("Neg", "Abs"), devices=["odd", "cpu"], registry=registry, strict=strict, cache=False) as session:
        for count in (3, 5, 7, 3):
            x = np.random.default_rng(count).uniform(-1, 1, (count, 4)).astype(np.float32)
            np.testing.assert_array_equal(session.run({"x": x})["y"], np.abs(-x))
            assert session.explain().nodes_per_device == {"odd:0": 2}
        assert "odd:0" in session.explain().one_by_one


def test_a_device_that_claims_nothing_leaves_the_others_their_plan_for_many_shapes() -> None:
    registry = registry_of(make_provider("odd", claims=set()), CpuProvider)
    with Session(chain("Neg", "Abs"), devices=["odd", "cpu"], registry=registry, cache=False) as session:
        for count in (3, 5, 7):
            x = np.random.default_rng(count).uniform(-1, 1, (count, 4)).astype(np.float32)
            np.testing.assert_array_equal(session.run({"x": x})["y"], np.abs(-x))
        found = session.explain()
    assert found.nodes_per_device == {"cpu:0": 2}
    assert found.guards and not found.one_by_one
