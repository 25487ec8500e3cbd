"""How networks run: options, bindings, threads, beside another device; and with MediaTek's own library, where it is."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import onnx
import pytest
from apu_support import SHAPE, StandIn, open_backend, small_network
from mace_apu import discovery
from mace_apu.neuron.constants import Preference
from mace_apu.neuron.library import load
from mace_apu.provider import ApuProvider

from mace_core.errors import CancelledError, ProviderError
from mace_core.provider import CancelFlag, Device
from mace_core.session import Session
from mace_core.testing.cases import operator_cases
from mace_core.testing.models import sample_image
from mace_core.testing.network import NetworkBuilder
from mace_core.testing.runner import bind, view_of

FEEDS = {"x": sample_image(SHAPE)}


def calls(log: Path) -> list[str]:
    return log.read_text().split() if log.is_file() else []


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the stand-in writes the functions that it is called through."""
    monkeypatch.setenv("NEURON_STAND_IN_LOG", str(tmp_path / "calls"))
    return tmp_path / "calls"


@pytest.mark.parametrize(
    ("performance", "preference", "boosts"),
    [
        ("latency", Preference.FAST_SINGLE_ANSWER, False),
        ("low_power", Preference.LOW_POWER, False),
        ("sustained", Preference.SUSTAINED_SPEED, False),
        ("boost", Preference.TURBO_BOOST, True),
    ],
)
def test_performance_is_a_choice(
    device: Device, stand_in: StandIn, log: Path, performance: str, preference: Preference, boosts: bool
) -> None:
    options = {"apu": {"performance": performance}}
    with Session(small_network(), devices=[device.qualified_name], cache=False, options=options) as session:
        session.run(FEEDS)
    assert stand_in.preference == preference
    assert ("NeuronExecution_setBoostHint" in calls(log)) == boosts


@pytest.mark.parametrize("shared", [True, False])
def test_the_library_is_told_of_memory_only_where_it_is_another(device: Device, log: Path, shared: bool) -> None:
    backend = open_backend(device, shared_memory="auto" if shared else "off")
    case = next(case for case in operator_cases() if case.name == "Conv 3x3")
    view = view_of(case.graph(), case.feeds())
    (compiled,) = backend.compile([view])
    execution = compiled.new_execution()
    first, second = (bind(backend, view, compiled, case.feeds()) for _ in range(2))
    for bound in (first, first, first, second, second):
        execution.run(bound.bindings)
    execution.close()
    compiled.close()
    backend.close()
    found = calls(log)
    assert found.count("NeuronExecution_compute") == 5
    suffix = "FromMemory" if shared else ""
    assert found.count(f"NeuronExecution_setInput{suffix}") == 2 * len(view.inputs)
    assert found.count(f"NeuronExecution_setOutput{suffix}") == 2 * len(view.outputs)


def test_a_run_that_is_cancelled_before_it_begins_computes_nothing(device: Device, log: Path) -> None:
    flag = CancelFlag()
    flag.set()
    with Session(small_network(), devices=[device.qualified_name], cache=False) as session:
        with pytest.raises(CancelledError):
            session.run(FEEDS, cancel=flag)
        assert not {"NeuronExecution_compute", "NeuronExecution_startComputeWithDependencies"} & set(calls(log))
        session.run(FEEDS)


def mixed_network() -> onnx.ModelProto:
    """Convolutions around an operator that Neuron does not have."""
    net = NetworkBuilder("mixed", SHAPE, seed=3)
    x = net.op("Sin", net.conv("x", 3, 16, 3))
    return net.build(net.classifier(net.op("GlobalAveragePool", net.conv(x, 16, 16, 3)), 16, 10), (1, 10))


def test_half_of_a_network_beside_the_cpu_provider(device: Device) -> None:
    """The timeline shows both, and the results fit together."""
    with Session(mixed_network(), devices=["cpu"], cache=False) as session:
        (expected,) = session.run(FEEDS).values()
    with Session(mixed_network(), devices=[device.qualified_name, "cpu"], cache=False) as session:
        profile = session.profile(FEEDS)
        (found,) = profile.outputs.values()
        placement = session.explain()
    assert placement.nodes_per_device.keys() == {device.qualified_name, "cpu:0"}
    assert {device.qualified_name, "cpu:0"} <= {span.device for span in profile.spans}
    np.testing.assert_allclose(found, expected, rtol=0, atol=5e-3 * float(np.ptp(expected)))


def test_the_stand_in_is_never_chosen_by_itself(device: Device) -> None:
    with Session(small_network(), cache=False) as session:
        session.run(FEEDS)
        assert device.qualified_name not in session.explain().nodes_per_device


def test_sessions_on_several_threads(device: Device) -> None:
    feeds = [{"x": sample_image(SHAPE, seed)} for seed in range(4)]
    with Session(small_network(), devices=[device.qualified_name], strict=True, cache=False) as session:
        expected = [next(iter(session.run(each).values())).copy() for each in feeds]
        found: list[list[np.ndarray]] = [[] for _ in feeds]

        def work(index: int) -> None:
            for _ in range(10):
                found[index].append(next(iter(session.run(feeds[index]).values())).copy())

        threads = [threading.Thread(target=work, args=(index,)) for index in range(len(feeds))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for right, results in zip(expected, found, strict=True):
        assert len(results) == 10
        for result in results:
            np.testing.assert_array_equal(result, right)


def test_it_runs_with_mediateks_own_library() -> None:
    """Where a MediaTek device has one; nobody has run this yet."""
    library = discovery.find_adapter()
    if library is None or discovery.why_unusable(library) is not None or discovery.is_stand_in(library):
        pytest.skip(f"no Neuron Adapter of MediaTek's was found in {discovery.searched()}")
    (device,) = ApuProvider().probe().devices
    assert not device.is_virtual
    assert load(library).version.major >= 4
    with Session(small_network(), devices=["cpu"], cache=False) as session:
        (expected,) = session.run(FEEDS).values()
    with Session(small_network(), devices=[device.qualified_name, "cpu"], cache=False) as session:
        (found,) = session.run(FEEDS).values()
        assert device.qualified_name in session.explain().nodes_per_device
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-2 * float(np.ptp(expected)))


def test_what_the_suite_found_is_right(device: Device) -> None:
    """SpaceToDepth by channels is shuffled; corners aligned over a length that is not whole are declined."""
    nodes = [
        onnx.helper.make_node("SpaceToDepth", ["x"], ["deep"], blocksize=2, mode="CRD"),
        onnx.helper.make_node(
            "Resize", ["x", "", "factors"], ["small"], mode="linear", coordinate_transformation_mode="align_corners"
        ),
    ]
    shape, factors = (1, 3, 4, 6), np.float32([1, 1, 0.6, 0.6])
    graph = onnx.helper.make_graph(
        nodes,
        "suite",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)],
        [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in ("deep", "small")],
        [onnx.numpy_helper.from_array(factors, "factors")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 28)])
    x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    with Session(model, devices=[device.qualified_name, "cpu"], cache=False) as session:
        found = session.run({"x": x})
        placed = {entry.op: entry.device for entry in session.explain().nodes}
    blocks = x.reshape(1, 3, 2, 2, 3, 2).transpose(0, 1, 3, 5, 2, 4).reshape(1, 12, 2, 3)
    np.testing.assert_array_equal(found["deep"], blocks)
    assert placed["SpaceToDepth"] == device.qualified_name
    assert placed["Resize"] == "cpu:0"


def test_integers_that_the_stand_in_cannot_hold_are_an_error(device: Device) -> None:
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Less", ["x", "limit"], ["y"])],
        "integers",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.INT64, (2,))],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.BOOL, (2,))],
        [onnx.numpy_helper.from_array(np.array([5], np.int64), "limit")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])
    with Session(model, devices=[device.qualified_name], strict=True, cache=False) as session:
        with pytest.raises(ProviderError, match="NEURON_OP_FAILED"):
            session.run({"x": np.array([1, 1 << 25], np.int64)})
        with pytest.raises(ProviderError, match="more than 32 bits"):
            session.run({"x": np.array([1, 1 << 40], np.int64)})
        assert session.run({"x": np.array([1, 1 << 24], np.int64)})["y"].tolist() == [True, False]
