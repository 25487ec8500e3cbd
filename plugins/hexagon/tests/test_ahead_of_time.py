"""Compiling for a chip that is not here: what was made for it runs where its key fits, without compiling."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import onnx
import pytest
from hexagon_support import onnxruntime_outputs, open_backend, small_network
from mace_hexagon.backend import HexagonBackend

import mace_core as mace
from mace_core.errors import DeviceNotFoundError, StrictPlacementError
from mace_core.package import NewSection, open_package, write_package
from mace_core.provider import Compatibility, Device


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The devices that compiled, in order."""
    found: list[str] = []
    compile_them = HexagonBackend.compile

    def counted(self: HexagonBackend, subgraphs: object) -> object:
        found.append(self.device.id)
        return compile_them(self, subgraphs)  # type: ignore[arg-type]

    monkeypatch.setattr(HexagonBackend, "compile", counted)
    return found


@pytest.fixture
def package(device: Device, calls: list[str], tmp_path: Path) -> Path:
    """A network compiled for a chip that can run nothing here; the model is gone."""
    source, out = tmp_path / "small.onnx", tmp_path / "small.mace"
    onnx.save(small_network(), source)
    found = mace.compile(source, out, devices=["hexagon:sm8650"], strict=True)
    assert (found.targets[0].device, found.targets[0].share) == ("hexagon:sm8650", 1.0)
    source.unlink()
    assert calls == ["sm8650"]
    calls.clear()
    return out


X = np.random.default_rng(0).standard_normal((1, 3, 20, 18), np.float32)


def test_what_was_compiled_for_a_chip_runs_on_its_emulation_without_compiling(package: Path, calls: list[str]) -> None:
    for options in ({}, {"cache": False}, {"mmap": False}):
        with mace.Session(package, devices=["hexagon:v75"], strict=True, **options) as session:
            found = session.run({"x": X})["y"]
            assert "restored from" in str(session.explain().preparations[0])
        expected = onnxruntime_outputs(small_network().SerializeToString(), {"x": X})[0]
        np.testing.assert_allclose(found, expected, atol=0.02)
    assert calls == []


def test_another_chip_compiles_the_stored_graph_and_says_why(
    package: Path, calls: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    with mace.Session(package, devices=["hexagon:v73"], strict=True, cache=False) as session:
        session.run({"x": X})
        told = str(session.explain().preparations[0])
    assert calls == ["v73"]
    reason = "it was made with chip 57 (HTP v75), and hexagon:v73 has chip 43 (HTP v73)"
    assert reason in told
    assert any(reason in one.getMessage() and one.levelno == logging.WARNING for one in caplog.records)


def test_another_precision_compiles_too(package: Path, calls: list[str]) -> None:
    options = {"hexagon": {"precision": "float32"}}
    with mace.Session(package, devices=["hexagon:v75"], options=options, cache=False) as session:
        session.run({"x": X})
        assert "it was made with fp16" in str(session.explain().preparations[0])
    assert calls == ["v75"]


def test_options_that_only_say_how_it_runs_compile_nothing(package: Path, calls: list[str]) -> None:
    options = {"hexagon": {"performance": "low_power", "profiling": "basic"}}
    with mace.Session(package, devices=["hexagon:v75"], options=options, cache=False) as session:
        session.run({"x": X})
    assert calls == []


def test_a_target_cannot_run(package: Path) -> None:
    with pytest.raises(DeviceNotFoundError, match="target to compile for"):
        mace.Session(package, devices=["hexagon:sm8650"])


def test_a_context_that_somebody_changed_is_not_given_to_qnn(
    package: Path, calls: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Its own checksum holds where the checksums of the package were made anew."""
    opened = open_package(package)
    sections = []
    for one in opened.sections:
        content = bytearray(opened.view(one))
        if one.kind == "compiled":
            content[len(content) // 2] ^= 0xFF
        sections.append(NewSection(one.kind, one.name, [bytes(content)], one.is_required, one.facts))
    forged = package.with_name("forged.mace")
    write_package(forged, sections, opened.metadata)
    with mace.Session(forged, devices=["hexagon:v75"], cache=False) as session:
        session.run({"x": X})
        assert "its checksum does not fit" in str(session.explain().preparations[0])
    assert calls == ["v75"]


def test_strict_names_what_the_chip_declines(device: Device, tmp_path: Path) -> None:
    out = tmp_path / "small.mace"
    with pytest.raises(StrictPlacementError, match="sm8350"):  # v68 has no float arithmetic
        mace.compile(small_network(), out, devices="hexagon:sm8350", strict=True)
    assert not out.exists()


def test_a_real_chip_leaves_it_to_qnn_whether_a_context_fits(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """No chip is here: the emulation stands for one, under the name that a real one has."""
    backend = open_backend(device)
    try:
        key = backend.compatibility_key()
        real = Device("hexagon", "htp", device.kind, "Hexagon HTP", "Qualcomm")
        monkeypatch.setattr(backend, "device", real)
        assert backend.check_compatibility(key) is Compatibility.USABLE
        assert backend.check_compatibility(backend.compatibility_key()) is Compatibility.OPTIMAL
        assert backend.check_compatibility(key.replace("fp16", "float32")) is Compatibility.RECOMPILE
        assert backend.check_compatibility(key.replace("QNN v", "QNN w")) is Compatibility.RECOMPILE
    finally:
        backend.close()
