"""What a session says of where nodes run, and of calls that are not as they should be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scheduler_models import chain
from scheduler_stand_ins import make_provider, registry_of

from mace_core.cli.placement import placement_data, placement_lines
from mace_core.discovery.entry_points import Switches
from mace_core.errors import InputError, StrictPlacementError
from mace_core.provider.registry import Registry
from mace_core.session import Session

X = np.array([[-2.0, -1.0, 1.0, 3.0]], np.float32)


class TestWhereNodesRun:
    def test_nodes_pinned_to_the_reference_are_no_fallback(self) -> None:
        one = make_provider("one")
        pins = {"Abs": "reference"}
        with Session(chain("Neg", "Abs"), devices=["one"], pins=pins, registry=registry_of(one)) as session:
            found = session.explain()
        assert found.fallbacks == {}
        assert found.pinned == {"reference:0": 1}
        assert next(entry.reason for entry in found.nodes if entry.op == "Abs") == "pinned by the user"
        text = "\n".join(placement_lines(found))
        assert "1 nodes run on reference:0 because they are pinned to it" in text
        assert "FALLBACK" not in text
        assert placement_data(found)["pinned"] == {"reference:0": 1}

    def test_pinned_nodes_and_declined_nodes_are_told_apart(self) -> None:
        one = make_provider("one", claims={"Neg", "Abs"})
        pins = {"Abs": "reference"}
        with Session(chain("Neg", "Abs", "Exp"), devices=["one"], pins=pins, registry=registry_of(one)) as session:
            found = session.explain()
        assert (found.pinned, found.fallbacks) == ({"reference:0": 1}, {"reference:0": 1})
        text = "\n".join(placement_lines(found))
        assert "FALLBACK: 1 node runs on reference:0, which is slow and only for comparison" in text
        assert "Exp x1: one:0: one has no Exp" in text
        assert "Abs x1" not in text

    def test_the_core_alone_says_what_to_install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("mace_core.provider.registry.discover", lambda group: [])
        with Session(chain("Neg"), registry=Registry()) as session:
            found = session.explain()
        assert found.advice == "the CPU provider is not installed: pip install mace-cpu"
        text = "\n".join(placement_lines(found))
        assert "because there is no other device" in text and "pip install mace-cpu" in text
        assert "first choice" not in text and "first choice" not in str(found)
        assert "pip install mace-cpu" in str(found)

    def test_a_provider_that_is_switched_off_is_not_to_be_installed(self) -> None:
        pytest.importorskip("mace_cpu")
        with Session(chain("Neg"), registry=Registry(Switches(disabled=frozenset({"cpu", "opencl"})))) as session:
            advice = session.explain().advice
        assert "switched off" in advice and "pip install" not in advice

    def test_the_reference_that_was_named_is_told_as_named(self) -> None:
        with Session(chain("Neg"), devices=["reference"], registry=registry_of()) as session:
            assert "as the device was named" in "\n".join(placement_lines(session.explain()))


class TestStrict:
    def test_the_error_is_one_short_sentence(self) -> None:
        ops = ["Abs", "Exp", "Ceil", "Floor", "Sqrt", "Sin", "Cos"] * 30
        one = make_provider("one", claims={"Neg"})
        with pytest.raises(StrictPlacementError) as caught:
            Session(chain("Neg", *ops, shape=(1, 4)), devices=["one"], registry=registry_of(one), strict=True)
        message = str(caught.value)
        assert "\n" not in message and len(message) < 800
        assert (
            "210 of 211 nodes cannot run on one:0: 30 nodes (Abs, the first is 'Abs_t1'): one:0: one has no Abs"
            in message
        )
        assert "and 3 more kinds of nodes" in message
        assert "no device runs" not in message  # it was not asked of every device
        assert message.startswith("model 'small': strict placement")
        assert len(caught.value.unplaced) == 210
        assert caught.value.unplaced["Abs_t1"] == {"one:0": "one has no Abs"}


class TestCalls:
    @pytest.mark.parametrize(
        ("arguments", "call"),
        [
            ((None, {"x": X}), "session.run({'x': …})"),
            ((["y"], {"x": X}), "session.run({'x': …}, outputs=['y'])"),
            (([], {"x": X}), "session.run({'x': …}, outputs=[])"),
            ((X,), "session.run({'x': array})"),
            (([X],), "session.run({'x': array})"),
            ((None,), "session.run({'x': array})"),
            ((7,), "session.run({'x': array})"),
            (("x",), "session.run({'x': array})"),
            ((object(),), "session.run({'x': array})"),
            ((X, ["y"]), "session.run({'x': array})"),
        ],
    )
    @pytest.mark.parametrize("ran_before", [False, True])
    def test_the_right_call_is_shown(self, arguments: tuple[Any, ...], call: str, ran_before: bool) -> None:
        with Session(chain("Neg"), registry=registry_of(make_provider("one"))) as session:
            if ran_before:
                session.run({"x": X})
            for run in (session.run, session.profile):
                with pytest.raises(InputError) as caught:
                    run(*arguments)
                assert call in str(caught.value)
                assert isinstance(caught.value, TypeError)
