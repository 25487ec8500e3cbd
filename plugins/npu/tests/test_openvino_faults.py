"""What happens when OpenVINO fails: its errors are sentences, nothing is lost, the device stays usable."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import onnx
import pytest
from mace_npu.openvino.backend import OpenVinoBackend
from mace_npu.provider import NpuProvider

from mace_core.errors import CancelledError, ProviderError, UnsupportedError
from mace_core.provider import CancelFlag, Device, DeviceKind
from mace_core.session import Session
from mace_core.testing.cases import Case, operator_cases
from mace_core.testing.models import sample_image
from mace_core.testing.network import NetworkBuilder
from mace_core.testing.runner import bind, run_once, view_of

openvino = pytest.importorskip("openvino", reason="pip install mace-npu[openvino]")

SHAPE = (1, 3, 32, 32)


def network() -> onnx.ModelProto:
    net = NetworkBuilder("net", SHAPE, seed=1)
    x = net.relu6(net.conv("x", 3, 16, 3))
    return net.build(net.classifier(net.op("GlobalAveragePool", x), 16, 10), (1, 10))


def case(name: str) -> Case:
    return next(case for case in operator_cases() if case.name == name)


def test_a_unit_that_is_not_there_is_named_with_those_that_are(device: Device) -> None:
    absent = Device("npu", "openvino-npu", DeviceKind.NPU, "Intel NPU", "Intel")
    with pytest.raises(ProviderError, match=r"npu:openvino-npu cannot be opened: OpenVINO \S+ has CPU.* here, not NPU"):
        NpuProvider().open(absent, {})


def test_what_openvino_refuses_to_compile_runs_elsewhere(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: OpenVinoBackend, *arguments: object) -> None:
        raise UnsupportedError("OpenVINO cannot compile it")

    monkeypatch.setattr(OpenVinoBackend, "_from_onnx", refuse)
    feeds = {"x": sample_image(SHAPE)}
    with Session(network(), devices=[device.qualified_name, "cpu"], cache=False) as session:
        session.run(feeds)
        assert session.explain().nodes_per_device.keys() == {"cpu:0"}
        assert "OpenVINO cannot compile it" in str(session.explain())


@pytest.mark.parametrize("damage", ["cut", "changed", "empty"])
def test_a_damaged_stored_form_is_compiled_again(
    device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    monkeypatch.setenv("MACE_CACHE_DIR", str(tmp_path))
    feeds = {"x": sample_image(SHAPE)}

    def result() -> np.ndarray:
        with Session(network(), devices=[device.qualified_name], strict=True) as session:
            return next(iter(session.run(feeds).values()))

    expected = result()
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size > 2000]
    assert files
    for path in files:
        content = path.read_bytes()
        half = len(content) // 2
        path.write_bytes(
            {"cut": content[:half], "changed": content[:half] + b"?" * 64 + content[half + 64 :], "empty": b""}[damage]
        )
    np.testing.assert_array_equal(result(), expected)


@pytest.mark.parametrize("what", ["__version__", "settings"])
def test_what_another_version_stored_is_not_used(
    device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setenv("MACE_CACHE_DIR", str(tmp_path))

    def explained(**options: object) -> str:
        with Session(network(), devices=[device.qualified_name], strict=True, options={"npu": options}) as session:
            session.run({"x": sample_image(SHAPE)})
            return str(session.explain())

    assert "compiled in" in explained()
    assert "from the cache" in explained()
    if what == "settings":
        assert "compiled in" in explained(openvino_performance="throughput")
    else:
        monkeypatch.setattr(openvino, "__version__", "2099.1.0")
        assert "compiled in" in explained()


def test_a_foreign_stored_form_is_refused_in_a_sentence(device: Device) -> None:
    backend = NpuProvider().open(device, {})
    found = case("Conv 3x3")
    view = view_of(found.graph(), found.feeds())
    with pytest.raises(UnsupportedError, match="OpenVINO refuses the stored form of"):
        backend.deserialize(b'[["exported", 9]]\nnot a blob'[:-1], [view])
    with pytest.raises(UnsupportedError, match="are not those of these subgraphs"):
        backend.deserialize(b"[]\n", [view])
    backend.close()


def test_openvinos_failure_in_a_run_is_a_provider_error(device: Device) -> None:
    backend = NpuProvider().open(device, {})
    found = case("Conv 3x3")
    view = view_of(found.graph(), found.feeds())
    (compiled,) = backend.compile([view])
    bound, execution = bind(backend, view, compiled, found.feeds()), compiled.new_execution()
    wrong = bound.bindings.inputs[0]
    wrong.shape = (*wrong.shape[:-1], wrong.shape[-1] + 1)
    with pytest.raises(ProviderError, match="OpenVINO failed on CPU"):
        execution.run(bound.bindings)
    run_once(backend, view, compiled, found.feeds())
    backend.close()


def test_inputs_and_outputs_are_the_cores_own_memory(device: Device) -> None:
    backend = NpuProvider().open(device, {})
    found = case("Conv 3x3")
    view = view_of(found.graph(), found.feeds())
    (compiled,) = backend.compile([view])
    bound, execution = bind(backend, view, compiled, found.feeds()), compiled.new_execution()
    execution.run(bound.bindings)
    first = bound.outputs()[0]
    assert first is not None
    first = first.copy()
    request = execution._request
    (result,) = (each for each in bound.bindings.outputs if each is not None)
    assert request.get_input_tensor(0).data.ctypes.data == bound.bindings.inputs[0].address
    assert request.get_output_tensor(0).data.ctypes.data == result.address
    request.get_input_tensor(0).data[...] *= 2  # what lies there when a run begins is what it reads
    execution.run(bound.bindings)
    second = bound.outputs()[0]
    assert second is not None
    assert not np.array_equal(first, second)
    bound.free()
    backend.close()


def test_a_long_run_is_cancelled(device: Device) -> None:
    """A run that takes seconds stops between two operations."""
    net = NetworkBuilder("long", (1, 64, 256, 256), seed=1)
    x = "x"
    for _ in range(60):
        x = net.conv(x, 64, 64, 3)
    model = net.build(x, (1, 64, 256, 256))
    feeds = {"x": sample_image((1, 64, 256, 256))}
    with Session(model, devices=[device.qualified_name], strict=True, cache=False) as session:
        told: list[str] = []
        for delay in (0.02, 0.1, 0.5):  # on a busy machine the flag may be set before the run has begun
            flag = CancelFlag()
            timer = threading.Timer(delay, flag.set)
            timer.start()
            with pytest.raises(CancelledError) as raised:
                session.run(feeds, cancel=flag)
            timer.join()
            told.append(str(raised.value))
            if "cancelled during 'OpenVINO on CPU'" in told[-1]:
                break
        assert "cancelled during 'OpenVINO on CPU'" in told[-1], told
        assert np.isfinite(session.run(feeds)["y"]).all()


def test_sessions_on_several_threads(device: Device) -> None:
    feeds = [{"x": sample_image(SHAPE, seed)} for seed in range(4)]
    with Session(network(), devices=[device.qualified_name], strict=True, cache=False) as session:
        expected = [next(iter(session.run(each).values())).copy() for each in feeds]
        found: list[list[np.ndarray]] = [[] for _ in feeds]

        def work(index: int) -> None:
            for _ in range(20):
                found[index].append(next(iter(session.run(feeds[index]).values())).copy())

        threads = [threading.Thread(target=work, args=(index,)) for index in range(len(feeds))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for right, results in zip(expected, found, strict=True):
        for result in results:
            np.testing.assert_array_equal(result, right)
