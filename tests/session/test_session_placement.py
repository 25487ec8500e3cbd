"""Placement as a session shows it: order, pins, strict, what fails and why, what is lost and refused."""

from __future__ import annotations

import numpy as np
import pytest
from scheduler_models import chain, diamond
from scheduler_stand_ins import StandInProvider, make_provider, registry_of

from mace_core.errors import (
    DeviceLostError,
    DeviceNotFoundError,
    MaceError,
    OutOfRangeError,
    ProviderBugError,
    ProviderError,
    StrictPlacementError,
    TransientError,
    UnsupportedError,
    UsageError,
)
from mace_core.session import Session

X = np.array([[-2.0, -1.0, 1.0, 3.0]], np.float32)


def devices_of(session: Session) -> dict[str, str]:
    session.run({"x": X})
    return {entry.op: entry.device for entry in session.explain().nodes}


def test_each_node_goes_to_the_first_device_that_claims_it() -> None:
    one, two = make_provider("one", claims={"Neg"}), make_provider("two", claims={"Neg", "Abs"})
    registry = registry_of(one, two)
    with Session(chain("Neg", "Abs", "Exp"), devices=["one", "two"], registry=registry) as session:
        assert devices_of(session) == {"Neg": "one:0", "Abs": "two:0", "Exp": "reference:0"}
    with Session(chain("Neg", "Abs", "Exp"), devices=["two:0", "one"], registry=registry) as session:
        assert devices_of(session) == {"Neg": "two:0", "Abs": "two:0", "Exp": "reference:0"}


def test_a_device_named_twice_is_used_once() -> None:
    one = make_provider("one")
    with Session(chain("Neg"), devices=["one", "one:0"], registry=registry_of(one)) as session:
        assert devices_of(session) == {"Neg": "one:0"}
    assert len(one.opened) == 1


def test_explain_tells_why_not_elsewhere_as_data_and_as_text() -> None:
    one = make_provider("one", claims={"Neg"})
    with Session(chain("Neg", "Exp"), devices=["one"], registry=registry_of(one)) as session:
        session.run({"x": X})
        found = session.explain()
        exp = next(entry for entry in found.nodes if entry.op == "Exp")
        assert exp.declined == {"one:0": "one has no Exp"}
        assert found.fallback_count == 1
        assert found.fallbacks == {"reference:0": 1}
        text = str(found)
        for words in (
            "one:0: 1 node",
            "reference:0: 1 node  (fallback)",
            "not on one:0: one has no Exp",
            "x: float32[1, 4]",
        ):
            assert words in text


def test_explain_before_any_run_assumes_sizes_and_says_so() -> None:
    one = make_provider("one", claims={"Neg"})
    with Session(chain("Neg"), devices=["one"], registry=registry_of(one)) as session:
        assert "assumed: n=1" in str(session.explain())
        assert "float32[7, 4]" in str(session.explain({"x": (7, 4)}))


def test_the_reference_counts_as_fallback_even_where_it_is_named() -> None:
    with Session(chain("Neg"), devices=["reference"], registry=registry_of()) as session:
        assert session.explain().fallbacks == {"reference:0": 1}


def test_without_names_all_real_devices_are_used_and_no_virtual_one() -> None:
    real, unreal = make_provider("real", claims={"Neg"}), make_provider("unreal", is_virtual=True)
    registry = registry_of(real, unreal)
    with Session(chain("Neg", "Abs"), registry=registry) as session:
        assert devices_of(session) == {"Neg": "real:0", "Abs": "reference:0"}
        assert not unreal.opened
    with Session(chain("Neg"), devices=["unreal:0"], registry=registry) as session:
        assert devices_of(session) == {"Neg": "unreal:0"}
    with pytest.raises(DeviceNotFoundError, match="virtual"):
        Session(chain("Neg"), devices=["unreal"], registry=registry)


def test_what_an_accelerator_declines_goes_to_the_cpu_provider_first() -> None:
    from mace_core.provider import DeviceKind

    far = make_provider("far", claims={"Neg"})
    cpu = make_provider("cpu", claims={"Abs"}, kind=DeviceKind.CPU)
    with Session(chain("Neg", "Abs", "Exp"), devices=["far"], registry=registry_of(far, cpu)) as session:
        assert devices_of(session) == {"Neg": "far:0", "Abs": "cpu:0", "Exp": "reference:0"}
        assert session.explain().fallbacks == {"cpu:0": 1, "reference:0": 1}


def test_strict_names_the_nodes_and_reasons() -> None:
    one = make_provider("one", claims={"Neg"})
    with pytest.raises(StrictPlacementError) as caught:
        Session(chain("Neg", "Abs", "Exp", shape=(1, 4)), devices=["one"], registry=registry_of(one), strict=True)
    for words in ("2 of 3 nodes", "'Abs_t1' (Abs): one:0: one has no Abs", "Exp"):
        assert words in str(caught.value)
    with Session(chain("Neg"), devices=["one"], registry=registry_of(one), strict=True) as session:
        assert devices_of(session) == {"Neg": "one:0"}


def test_strict_without_devices_rules_out_the_reference() -> None:
    with pytest.raises(UsageError, match="no device to run on"):
        Session(chain("Neg"), registry=registry_of(), strict=True)


def test_pins_choose_nodes_by_name_and_by_type() -> None:
    one, two = make_provider("one"), make_provider("two")
    registry = registry_of(one, two)
    pins = {"Neg_b": "two", "A*": "two:0"}
    with Session(diamond(), devices=["one", "two"], pins=pins, registry=registry) as session:
        found = devices_of(session)
    assert found == {"Relu": "one:0", "Neg": "two:0", "Add": "two:0", "Abs": "two:0", "Mul": "one:0"}


def test_a_pin_brings_in_a_device_that_takes_nothing_else() -> None:
    one, two = make_provider("one"), make_provider("two")
    with Session(chain("Neg", "Abs"), devices=["one"], pins={"Abs": "two"}, registry=registry_of(one, two)) as session:
        assert devices_of(session) == {"Neg": "one:0", "Abs": "two:0"}


def test_a_pin_that_matches_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match=r"'Convv'.*matches no node name"):
        Session(chain("Neg"), devices=["reference"], pins={"Convv": "reference"}, registry=registry_of())


def test_an_unknown_device_is_refused_with_the_nearest_name() -> None:
    one = make_provider("one")
    with pytest.raises(DeviceNotFoundError, match="did you mean 'one'"):
        Session(chain("Neg"), devices=["ona"], registry=registry_of(one))


def test_options_reach_the_provider_and_unknown_ones_are_refused() -> None:
    one = make_provider("one")
    registry = registry_of(one)
    with Session(chain("Neg"), devices=["one"], options={"one": {"speed": 3}}, registry=registry) as session:
        session.run({"x": X})
    with pytest.raises(UsageError, match="no option 'sped'; its options: speed"):
        Session(chain("Neg"), devices=["one"], options={"one": {"sped": 3}}, registry=registry)
    with pytest.raises(UsageError, match="options are given for 'two'"):
        Session(chain("Neg"), devices=["one"], options={"two": {}}, registry=registry)


# --- failures ------------------------------------------------------------


def test_what_does_not_compile_is_placed_on_the_next_device_with_the_reason() -> None:
    one, two = make_provider("one", compile_fails={"Abs"}), make_provider("two", claims={"Abs", "Neg"})
    model = chain("Neg", "Exp", "Abs")
    with Session(model, devices=["one", "two"], registry=registry_of(one, two)) as session:
        np.testing.assert_allclose(session.run({"x": X})["y"], np.exp(-X), rtol=1e-6)
        entries = {entry.op: entry for entry in session.explain().nodes}
        assert entries["Abs"].device == "two:0"
        assert entries["Abs"].declined == {"one:0": "compile failed: Abs is too much for me"}


def test_only_the_subgraph_that_fails_to_compile_leaves_its_device() -> None:
    one = make_provider("one", claims={"Neg", "Abs"}, compile_fails={"Abs"})
    with Session(chain("Neg", "Exp", "Abs"), devices=["one"], registry=registry_of(one)) as session:
        assert devices_of(session) == {"Neg": "one:0", "Exp": "reference:0", "Abs": "reference:0"}
        assert one.opened[-1].compiled_alive == 1


def test_strict_does_not_hide_a_failed_compile() -> None:
    one = make_provider("one", compile_fails={"Abs"})
    with pytest.raises(StrictPlacementError, match="compile failed: Abs is too much for me"):
        Session(chain("Abs", shape=(1, 4)), devices=["one"], registry=registry_of(one), strict=True)


def test_a_named_device_that_does_not_open_is_an_error_an_unnamed_one_a_note() -> None:
    broken = make_provider("broken", open_fault=ProviderError("the driver is asleep"))
    registry = registry_of(broken)
    with pytest.raises(ProviderError, match="asleep"):
        Session(chain("Neg", shape=(1, 4)), devices=["broken"], registry=registry)
    with Session(chain("Neg"), registry=registry) as session:
        assert devices_of(session) == {"Neg": "reference:0"}
        assert "asleep" in session.explain().refused["broken:0"]


def test_a_defect_in_capability_is_a_reason_not_a_crash() -> None:
    def claims(cls: type[StandInProvider], node: object) -> bool:
        raise ZeroDivisionError("oops")

    odd = make_provider("odd", claims=classmethod(claims))
    with Session(chain("Neg"), devices=["odd"], registry=registry_of(odd)) as session:
        session.run({"x": X})
        assert session.explain().nodes[0].declined == {"odd:0": "its capability check failed: ZeroDivisionError: oops"}


def test_a_passing_failure_is_retried_once() -> None:
    one = make_provider("one")
    with Session(chain("Neg"), devices=["one"], registry=registry_of(one)) as session:
        one.faults[:] = [TransientError("busy")]
        np.testing.assert_array_equal(session.run({"x": X})["y"], -X)
        assert one.opened[-1].runs == 2
        one.faults[:] = [TransientError("busy"), TransientError("still busy")]
        np.testing.assert_array_equal(session.run({"x": X})["y"], -X)
        assert one.opened[-1].runs == 4
    with Session(chain("Neg"), devices=["one"], strict=True, registry=registry_of(one)) as session:
        one.faults[:] = [TransientError("busy"), TransientError("still busy")]
        with pytest.raises(TransientError, match="still busy"):
            session.run({"x": X})


@pytest.mark.parametrize("fault", [ProviderBugError("a defect"), UnsupportedError("too much"), ProviderError("no")])
def test_other_failures_are_raised_where_no_other_device_may_run_and_leave_the_session_usable(fault: MaceError) -> None:
    one = make_provider("one")
    with Session(chain("Neg"), devices=["one"], strict=True, registry=registry_of(one)) as session:
        one.faults[:] = [fault]
        with pytest.raises(type(fault)):
            session.run({"x": X})
        assert one.opened[-1].runs == 1
        np.testing.assert_array_equal(session.run({"x": X})["y"], -X)


def test_a_lost_device_is_left_at_once() -> None:
    one, two = make_provider("one"), make_provider("two")
    with Session(chain("Neg"), devices=["one", "two"], registry=registry_of(one, two)) as session:
        session.run({"x": X})
        one.faults[:] = [DeviceLostError("unplugged", device="one:0")]
        np.testing.assert_array_equal(session.run({"x": X})["y"], -X)
        assert devices_of(session) == {"Neg": "two:0"}
        assert "unplugged" in session.explain().refused["one:0"]


@pytest.mark.parametrize("nodes", [["Neg"], ["Neg", "Exp", "Neg"]], ids=["one subgraph", "several"])
def test_numbers_that_a_device_declines_when_it_runs_go_to_the_other_devices(nodes: list[str]) -> None:
    one, two, three = make_provider("one", claims={"Neg"}), make_provider("two"), make_provider("three")
    registry = registry_of(one, two, three)
    with Session(chain(*nodes), devices=["one", "two", "three"], registry=registry) as session:
        expected = session.run({"x": X})["y"]
        before = set(devices_of(session).values())
        one.faults[:] = [OutOfRangeError("'x' holds infinities")]
        two.faults[:] = [OutOfRangeError("here too")]
        np.testing.assert_array_equal(session.run({"x": X})["y"], expected)
        assert any(backend.runs for backend in three.opened)
        assert "it failed in 1 run and is used on; the latest reason: 'x' holds inf" in str(session.explain())
        np.testing.assert_array_equal(session.run({"x": X})["y"], expected)  # with values that fit
        assert set(devices_of(session).values()) == before and not session.explain().refused
        for _ in range(8):  # runs that end well make up for it
            session.run({"x": X})
        assert "it failed" not in str(session.explain())
        one.faults[:] = [OutOfRangeError("'x' holds infinities")] * 9
        for _ in range(3):
            np.testing.assert_array_equal(session.run({"x": X})["y"], expected)
        assert "rests, and is tried again" in session.explain().refused["one:0"]
    one.faults.clear()
    with Session(chain(*nodes), devices=["one", "two"], registry=registry, strict=True) as session:
        session.run({"x": X})
        one.faults[:] = [OutOfRangeError("'x' holds infinities")]
        with pytest.raises(OutOfRangeError, match="infinities"):
            session.run({"x": X})


def test_an_explanation_tells_free_dimensions_and_what_another_shape_costs() -> None:
    pytest.importorskip("mace_cpu", reason="needs the CPU provider")
    pytest.importorskip("acme_npu", reason="needs the example vendor, which compiles per shape")
    with Session(chain("Relu", "Erf"), devices=["acme:sim0", "cpu"]) as session:
        session.run({"x": np.ones((3, 4), np.float32)})
        found = session.explain()
    assert found.free_inputs == {"x": "float32[n, 4]"}
    assert found.compile_per_shape == ["acme:sim0"]
    assert "free dimensions: x float32[n, 4]; another shape: acme:sim0 compiles it, cpu:0 only plans it" in str(found)
    with Session(chain("Relu", shape=(2, 4)), devices=["cpu"]) as session:
        found = session.explain()
    assert found.free_inputs == {}
    assert "free dimensions" not in str(found)
