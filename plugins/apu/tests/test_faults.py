"""What happens when the library fails: each of its functions, damaged compiled networks, unknown versions."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from apu_support import SHAPE, StandIn, open_backend, small_network
from mace_apu.neuron.constants import Operation, Result
from mace_apu.neuron.library import Library, load
from mace_apu.provider import ApuProvider

from mace_core.errors import (
    OutOfMemoryError,
    ProviderError,
    TransientError,
    UnsupportedError,
)
from mace_core.faults import FaultLimits
from mace_core.provider import Device
from mace_core.session import Session
from mace_core.testing.models import sample_image

OPENING = ("Neuron_getDeviceCount", "Neuron_getDevice", "NeuronDevice_getName")
ASKING = ("NeuronDevice_getExtensionSupport",)
"""What may fail and costs a feature only."""
BUILDING = (
    *("NeuronModel_create", "NeuronModel_setName", "NeuronModel_addOperand", "NeuronModel_setOperandValue"),
    *("NeuronModel_addOperation", "NeuronModel_identifyInputsAndOutputs"),
    *("NeuronModel_relaxComputationFloat32toFloat16", "NeuronModel_finish"),
    "NeuronModel_getSupportedOperationsForDevices",
)
COMPILING = ("NeuronCompilation_createForDevices", "NeuronCompilation_finish")
HINTING = ("NeuronCompilation_setPreference",)
STORING = ("NeuronCompilation_getCompiledNetworkSize", "NeuronCompilation_storeCompiledNetwork")
RUNNING = (
    *("NeuronExecution_create", "NeuronExecution_setInputFromMemory", "NeuronExecution_setOutputFromMemory"),
    *("NeuronExecution_startComputeWithDependencies", "NeuronEvent_wait"),
)
MEMORY = ("NeuronMemory_createFromFd",)
RUNNING_ON_HOST = ("NeuronExecution_setInput", "NeuronExecution_setOutput", "NeuronExecution_compute")
FEEDS = {"x": sample_image(SHAPE)}


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MACE_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture
def whole(stand_in: StandIn) -> Iterator[StandIn]:
    """The stand-in, which has lost nothing at the end."""
    before = stand_in.live
    yield stand_in
    assert stand_in.live == before


@pytest.fixture(scope="module")
def expected() -> np.ndarray:
    with Session(small_network(), devices=["cpu"], cache=False) as session:
        return next(iter(session.run(FEEDS).values())).copy()


def close(found: np.ndarray, expected: np.ndarray) -> bool:
    return bool(np.allclose(found, expected, rtol=0, atol=5e-3 * float(np.ptp(expected))))


def session_on(device: Device, faults: FaultLimits | None = None) -> Session:
    return Session(small_network(), devices=[device.qualified_name, "cpu"], faults=faults)


UNMOVED = FaultLimits(move=False)


def test_the_functions_that_are_failed_here_are_those_that_a_session_calls(
    device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "calls"
    monkeypatch.setenv("NEURON_STAND_IN_LOG", str(log))
    with session_on(device) as session:
        session.run(FEEDS)
    called = set(log.read_text().split()) - {"Neuron_getVersion"}
    assert called == {*OPENING, *ASKING, *BUILDING, *COMPILING, *HINTING, *STORING, *MEMORY, *RUNNING}


@pytest.mark.parametrize("function", OPENING)
@pytest.mark.parametrize("code", [Result.BAD_STATE, Result.UNAVAILABLE_DEVICE])
def test_a_named_device_that_cannot_be_opened_is_an_error_until_it_can(
    whole: StandIn, device: Device, function: str, code: Result
) -> None:
    with (
        whole.failing(function, code),
        pytest.raises(ProviderError, match=f"apu:stand-in: the Neuron Adapter cannot .*NEURON_{code.name}"),
    ):
        session_on(device)
    with session_on(device) as session:
        session.run(FEEDS)
        assert session.explain().nodes_per_device.keys() == {"apu:stand-in"}


@pytest.mark.parametrize("function", [*BUILDING, *COMPILING])
@pytest.mark.parametrize("code", [Result.BAD_STATE, Result.OUT_OF_MEMORY, Result.BAD_DATA])
def test_what_fails_before_the_run_places_the_nodes_elsewhere_and_says_why(
    whole: StandIn, device: Device, expected: np.ndarray, function: str, code: Result
) -> None:
    with whole.failing(function, code), session_on(device) as session:
        (found,) = session.run(FEEDS).values()
        placement = session.explain()
    assert placement.nodes_per_device.keys() == {"cpu:0"}
    assert f"NEURON_{code.name}" in str(placement)
    assert close(found, expected)


@pytest.mark.parametrize("function", STORING)
def test_what_cannot_be_stored_runs(whole: StandIn, device: Device, expected: np.ndarray, function: str) -> None:
    with whole.failing(function, Result.BAD_STATE), session_on(device) as session:
        (found,) = session.run(FEEDS).values()
        assert session.explain().nodes_per_device.keys() == {"apu:stand-in"}
    assert close(found, expected)


@pytest.mark.parametrize("function", RUNNING)
@pytest.mark.parametrize(
    ("code", "error"),
    [
        (Result.OUT_OF_MEMORY, OutOfMemoryError),
        (Result.RESOURCE_EXHAUSTED_PERSISTENT, OutOfMemoryError),
        (Result.BAD_STATE, ProviderError),
        (Result(9), ProviderError),
    ],
)
def test_what_fails_in_a_run_is_one_error_and_the_session_stays_usable(
    whole: StandIn, device: Device, expected: np.ndarray, function: str, code: Result, error: type[ProviderError]
) -> None:
    with session_on(device, UNMOVED) as session:
        with whole.failing(function, code), pytest.raises(error, match=f"NEURON_{code.name}"):
            session.run(FEEDS)
        (found,) = session.run(FEEDS).values()
    assert close(found, expected)


@pytest.mark.parametrize("function", RUNNING_ON_HOST)
@pytest.mark.parametrize("code", [Result.OUT_OF_MEMORY, Result.BAD_STATE])
def test_the_same_where_the_library_takes_no_shared_memory(
    whole: StandIn, device: Device, expected: np.ndarray, function: str, code: Result
) -> None:
    with whole.failing("NeuronMemory_createFromFd", Result.UNMAPPABLE), session_on(device, UNMOVED) as session:
        with whole.failing(function, code), pytest.raises(ProviderError, match=f"NEURON_{code.name}"):
            session.run(FEEDS)
        (found,) = session.run(FEEDS).values()
        notes = "\n".join(session.explain().notes[device.qualified_name])
    assert "the library copies inputs and outputs: it takes no shared memory: " in notes
    assert "NEURON_UNMAPPABLE" in notes
    assert close(found, expected)


def test_memory_that_runs_out_later_is_one_error(whole: StandIn, device: Device, expected: np.ndarray) -> None:
    with session_on(device, UNMOVED) as session:
        with (
            whole.failing("NeuronMemory_createFromFd", Result.OUT_OF_MEMORY),
            pytest.raises(OutOfMemoryError, match="cannot take a memory"),
        ):
            session.run(FEEDS)
        (found,) = session.run(FEEDS).values()
    assert close(found, expected)


@pytest.mark.parametrize("function", [*ASKING, *HINTING])
@pytest.mark.parametrize("code", [Result.BAD_STATE, Result.BAD_DATA])
def test_a_feature_that_fails_costs_the_feature_only(
    whole: StandIn, device: Device, expected: np.ndarray, function: str, code: Result
) -> None:
    with whole.failing(function, code), session_on(device) as session:
        (found,) = session.run(FEEDS).values()
        placement = session.explain()
    assert placement.nodes_per_device.keys() == {device.qualified_name}
    if function in HINTING:
        assert f"the apu option 'performance' has no effect: {device.qualified_name}" in str(placement)
        assert f"NEURON_{code.name}" in str(placement)
    assert close(found, expected)


def test_a_hint_that_fails_for_want_of_memory_is_no_refusal(whole: StandIn, device: Device) -> None:
    with whole.failing(HINTING[0], Result.OUT_OF_MEMORY), session_on(device) as session:
        session.run(FEEDS)
        assert session.explain().nodes_per_device.keys() == {"cpu:0"}


@pytest.mark.parametrize("code", [Result.DEAD_OBJECT, Result.UNAVAILABLE_DEVICE])
def test_a_run_in_which_the_device_is_lost_goes_on_elsewhere(
    whole: StandIn, device: Device, expected: np.ndarray, code: Result
) -> None:
    with session_on(device) as session, whole.failing("NeuronEvent_wait", code):
        (found,) = session.run(FEEDS).values()
        placement = session.explain()
    assert placement.nodes_per_device.keys() == {"cpu:0"}
    assert code.name in placement.refused[device.qualified_name]
    assert close(found, expected)


@pytest.mark.parametrize("code", [Result.MISSED_DEADLINE_TRANSIENT, Result.RESOURCE_EXHAUSTED_TRANSIENT])
def test_what_passes_is_transient(device: Device, stand_in: StandIn, code: Result) -> None:
    backend = open_backend(device)
    with stand_in.failing("NeuronModel_create", code), pytest.raises(TransientError, match=code.name):
        backend.devices.call("create", "NeuronModel_create", None)
    backend.close()


def test_an_operation_that_the_library_does_not_run_goes_elsewhere(
    whole: StandIn, device: Device, expected: np.ndarray
) -> None:
    with whole.refusing([Operation.DEPTHWISE_CONV_2D]), session_on(device) as session:
        (found,) = session.run(FEEDS).values()
        placement = session.explain()
    assert placement.nodes_per_device.keys() == {"cpu:0", "apu:stand-in"}
    assert placement.nodes_per_device["cpu:0"] <= 2
    assert "runs DEPTHWISE_CONV_2D of this form on none of its devices" in str(placement)
    assert close(found, expected)


def stored(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and b"NeuronStandIn" in path.read_bytes()]


def test_a_stored_network_is_used_again(whole: StandIn, device: Device, expected: np.ndarray, tmp_path: Path) -> None:
    with session_on(device) as session:
        (first,) = session.run(FEEDS).values()
    assert stored(tmp_path)
    with whole.failing("NeuronCompilation_finish", Result.OP_FAILED), session_on(device) as session:
        (second,) = session.run(FEEDS).values()
        assert session.explain().nodes_per_device.keys() == {"apu:stand-in"}
    np.testing.assert_array_equal(first, second)
    assert close(first, expected)


@pytest.mark.parametrize("damage", ["cut", "changed", "empty"])
def test_a_damaged_stored_network_is_compiled_again(
    whole: StandIn, device: Device, expected: np.ndarray, tmp_path: Path, damage: str
) -> None:
    with session_on(device) as session:
        session.run(FEEDS)
    for path in stored(tmp_path):
        content = path.read_bytes()
        half = len(content) // 2
        changed = content[:half] + bytes(byte ^ 0xFF for byte in content[half : half + 64]) + content[half + 64 :]
        path.write_bytes({"cut": content[:half], "changed": changed, "empty": b""}[damage])
    with session_on(device) as session:
        (found,) = session.run(FEEDS).values()
        assert session.explain().nodes_per_device.keys() == {"apu:stand-in"}
    assert close(found, expected)


def test_a_library_that_refuses_a_stored_network_compiles_it_again(
    whole: StandIn, device: Device, expected: np.ndarray
) -> None:
    with session_on(device) as session:
        session.run(FEEDS)
    with whole.failing("NeuronModel_restoreFromCompiledNetwork", Result.BAD_DATA), session_on(device) as session:
        (found,) = session.run(FEEDS).values()
        assert session.explain().nodes_per_device.keys() == {"apu:stand-in"}
    assert close(found, expected)


@pytest.mark.parametrize("blob", [b"", b"{}\n", b'{"format": 9}\n', b"\xff\n", b'{"format": 2, "networks": [{}]}\n'])
def test_a_foreign_stored_form_is_refused_in_a_sentence(device: Device, blob: bytes) -> None:
    backend = open_backend(device)
    with pytest.raises(UnsupportedError, match="stored"):
        backend.deserialize(blob, [])
    backend.close()


def test_bytes_that_are_no_compiled_network_are_refused_by_the_library(device: Device, whole: StandIn) -> None:
    from mace_apu.neuron.handles import NeuronCompilation

    backend = open_backend(device)
    for content in (b"?", b"?" * 1000, b"NeuronStandIn 1\0" + b"\xff" * 100):
        with pytest.raises(UnsupportedError, match="cannot restore a compiled network: it returns NEURON_BAD_DATA"):
            NeuronCompilation.restore(backend.devices, content)
    backend.close()


@pytest.mark.parametrize(
    ("version", "advice"),
    [((3, 9, 9), "update the system"), ((4, 0, 9), "update the system"), ((10, 0, 0), "update mace-apu")],
)
def test_a_version_that_is_not_known_is_not_used(stand_in: StandIn, version: tuple[int, int, int], advice: str) -> None:
    text = ".".join(map(str, version))
    with (
        stand_in.version(*version),
        pytest.raises(ProviderError, match=f"is version {text} of the Neuron Adapter.*{advice}"),
    ):
        Library(stand_in.path)


def test_a_version_that_is_not_told_is_an_error(stand_in: StandIn) -> None:
    with (
        stand_in.failing("Neuron_getVersion", Result.BAD_STATE),
        pytest.raises(ProviderError, match="does not tell its version"),
    ):
        Library(stand_in.path)


def test_functions_newer_than_the_library_are_off(stand_in: StandIn) -> None:
    with stand_in.version(4, 1, 0):
        library = Library(stand_in.path)
    assert library.has("NeuronExecution_compute")
    assert not library.has("NeuronModel_restoreFromCompiledNetwork")
    with pytest.raises(ProviderError, match=r"has no NeuronEvent_wait, which came with version 5\.0\.0; update"):
        library.code("NeuronEvent_wait", None)


def test_a_library_that_is_replaced_is_loaded_again(stand_in: StandIn, tmp_path: Path) -> None:
    copy = Path(shutil.copy(stand_in.path, tmp_path))
    first = load(copy)
    assert load(copy) is first
    shutil.copy(stand_in.path, tmp_path / "other")
    os.utime(tmp_path / "other", ns=(1, 1))
    (tmp_path / "other").replace(copy)
    assert load(copy) is not first


def test_an_old_version_runs_without_what_it_lacks(
    stand_in: StandIn, expected: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No compiled networks are stored, no names set."""
    shutil.copy(stand_in.path, tmp_path)
    monkeypatch.setenv("MACE_NEURON_LIB_DIR", str(tmp_path))
    with StandIn(tmp_path).version(4, 1, 0):
        (device,) = ApuProvider().probe().devices
        with session_on(device) as session:
            (found,) = session.run(FEEDS).values()
            assert session.explain().nodes_per_device.keys() == {"apu:stand-in"}
    assert not stored(tmp_path / "cache")
    assert close(found, expected)
