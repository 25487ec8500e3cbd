"""Rows are scattered into a bound cache itself, and put back where a run fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bound_models
import numpy as np
import onnx
import pytest
from bound_cases import Array, Case

from mace_core import Session, custom_op
from mace_core.custom_ops import unregister
from mace_core.errors import MaceError


@pytest.mark.parametrize("op_type", ["ScatterElements", "ScatterND", "TensorScatter"])
def test_a_run_that_fails_leaves_the_state_as_it_is(cases: dict[str, Case], op_type: str) -> None:
    case = cases[op_type]
    random = np.random.default_rng(0)
    with case.session.bind(case.pairs, case.start) as bound:
        for past in range(4):
            bound.run(case.feeds(past, 1, random))
        before = bound.read("next")
        feeds = case.feeds(4, 2, random)
        feeds["at"] = feeds["at"].copy()
        feeds["at"].reshape(-1)[-1] = 99  # the first row is in range, the last is not
        with pytest.raises(Exception, match="99"):
            bound.run(feeds)
        np.testing.assert_array_equal(bound.read("next"), before)


SCATTERS = ("ScatterElements", "ScatterND", "TensorScatter")


@pytest.mark.parametrize("op_type", SCATTERS)
def test_rows_are_scattered_into_the_cache_itself(cases: dict[str, Case], op_type: str) -> None:
    case = cases[op_type]
    random = np.random.default_rng(0)
    with case.session.bind(case.pairs, case.start) as bound:
        rooms = set()
        for past in range(4):
            bound.run(case.feeds(past, 1, random))
            assert bound.in_place == {"next"}
            rooms.add(bound._states[0].room)
        assert len(rooms) == 1


@pytest.mark.parametrize("poison", ["", "ff"])
@pytest.mark.parametrize("op_type", SCATTERS)
def test_what_was_written_over_is_put_back_when_a_later_node_fails(
    cases: dict[str, Case], op_type: str, poison: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scatter has run, in a subgraph that succeeded, when a node of another device raises.  With poison, memory
    that the plan may use for something else by then holds something else."""
    if poison:
        monkeypatch.setenv("MACE_POISON", poison)
    calls: list[int] = []

    @custom_op("test.binding", "Fails")
    def fails(x: Array) -> Array:
        calls.append(1)
        if len(calls) > 3:
            raise ValueError("it falls over")
        return x + 1

    try:
        model = bound_models.scattering_decoder(op_type)
        model.opset_import.append(onnx.helper.make_opsetid("test.binding", 1))
        model.graph.node[-1].output[0] = "before"
        model.graph.node.append(onnx.helper.make_node("Fails", ["before"], ["y"], domain="test.binding"))
        path = tmp_path / "failing.onnx"
        onnx.save(model, path)
        random = np.random.default_rng(0)
        case = cases[op_type]
        with Session(path, devices=["cpu"], cache=False) as session, session.bind(case.pairs, case.start) as bound:
            for past in range(3):
                bound.run(case.feeds(past, 2, random))
            assert bound.in_place == {"next"}
            before = bound.read("next")
            with pytest.raises(MaceError, match="falls over"):
                bound.run(case.feeds(1, 2, random))
            np.testing.assert_array_equal(bound.read("next"), before)
            calls.clear()
            feeds = case.feeds(3, 2, random)
            found = bound.run(feeds)["y"]
            np.testing.assert_array_equal(found, session.run({**feeds, "cache": before})["y"])
    finally:
        unregister("test.binding", "Fails")


def test_a_provider_that_cannot_put_back_what_it_wrote_is_named(
    cases: dict[str, Case], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mace_cpu.plan.subgraph import CpuExecution

    def undo(self: CpuExecution, bindings: Any) -> None:
        raise ValueError("a defect")

    case, random = cases["ScatterND"], np.random.default_rng(0)
    with case.session.bind(case.pairs, case.start) as bound:
        bound.run(case.feeds(0, 1, random))
        monkeypatch.setattr(CpuExecution, "undo", undo)
        feeds = case.feeds(1, 1, random)
        feeds["at"] = feeds["at"] + 99
        with pytest.raises(MaceError, match=r"Execution\.undo.*a defect") as error:
            bound.run(feeds)
        assert "cpu" in str(error.value)
