"""Compiling ahead of time: what was compiled is used without compiling where it fits, and the reason told where not."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import scheduler_stand_ins
from scheduler_models import chain, constant, model, nonzero_model, op, tensor
from scheduler_stand_ins import StandInBackend, make_provider, registry_of

import mace_core as mace
from mace_core.compilation import Compilation
from mace_core.errors import (
    DeviceNotFoundError,
    InputError,
    PackageError,
    StrictPlacementError,
    UnsupportedError,
    UsageError,
)
from mace_core.graph import GraphView
from mace_core.package import open_package
from mace_core.package.compiled import compiled_parts
from mace_core.provider import Compatibility, CompiledSubgraph

X = np.array([[-2.0, -1.0, 1.0, 3.0]], np.float32)


class StoringBackend(StandInBackend):
    """A backend whose blobs are the names of the nodes."""

    compatibility = "driver 1; chip 9"
    refuse_blobs = False

    def serialize(self, compiled: Sequence[CompiledSubgraph]) -> bytes:
        return repr([one.names for one in compiled]).encode()  # type: ignore[attr-defined]

    def deserialize(self, blob: bytes, subgraphs: Sequence[GraphView]) -> list[CompiledSubgraph]:
        if self.refuse_blobs:
            raise UnsupportedError("the chip says no")
        assert blob == repr([[node.name for node in view.nodes] for view in subgraphs]).encode()
        calls = self.compile_calls
        compiled = self.compile(subgraphs)
        self.compile_calls = calls
        return compiled

    def compatibility_key(self) -> str:
        return self.compatibility


@pytest.fixture(autouse=True)
def storing(monkeypatch: pytest.MonkeyPatch) -> type[StoringBackend]:
    monkeypatch.setattr(scheduler_stand_ins, "StandInBackend", StoringBackend)
    return StoringBackend


def compiled(given: Any, out: Path, **arguments: Any) -> Compilation:
    """A package for the stand-in."""
    far = make_provider("far")
    found = mace.compile(given, out, devices=["far"], registry=registry_of(far), **arguments)
    assert all(backend.compiled_alive == 0 for backend in far.opened)
    return found


def run(package: Any, feed: Any = X, **arguments: Any) -> tuple[int, Any, str]:
    """How often the stand-in compiles to run a package, the result, and what explanations say of preparations."""
    far = make_provider("far")
    with mace.Session(package, **{"devices": ["far"], "registry": registry_of(far), **arguments}) as session:
        found = session.run({"x": feed})["y"]
        told = "; ".join(str(one) for one in session.explain().preparations)
    return sum(backend.compile_calls for backend in far.opened), found, told


def test_what_was_compiled_is_used_without_compiling_and_without_the_model(tmp_path: Path) -> None:
    source, package = tmp_path / "m.onnx", tmp_path / "m.mace"
    onnx.save(chain("Neg", "Abs", shape=(1, 4)), source)
    (target,) = compiled(source, package).targets
    assert (target.device, target.nodes, target.compiled, target.share) == ("far:0", 2, 2, 1.0)
    source.unlink()
    for given in (package, str(package), package.read_bytes()):
        for options in ({}, {"cache": False}, {"mmap": False}, {"strict": True}):
            calls, found, told = run(given, **options)
            np.testing.assert_array_equal(found, np.abs(X))
            assert calls == 0
            assert "1 subgraph of 2 nodes restored from" in told


def test_a_package_that_does_not_serve_is_compiled_anew_and_says_why(
    tmp_path: Path, storing: type[StoringBackend], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "m.mace"
    compiled(chain("Neg", "Abs", shape=(1, 4)), package)

    def refused(reason: str, **arguments: Any) -> None:
        caplog.clear()
        calls, found, told = run(package, cache=False, **arguments)
        np.testing.assert_array_equal(found, np.abs(X))
        assert calls == 1
        assert f"not from '{package}'" in told
        assert reason in told
        (record,) = [one for one in caplog.records if one.name == "mace" and one.levelno == logging.WARNING]
        assert reason in record.getMessage()

    refused('compiled with the options {}, and this session has {"speed": 9}', options={"far": {"speed": 9}})
    monkeypatch.setattr(storing, "compatibility", "driver 2; chip 9")
    refused("it was made with driver 1, and far:0 has driver 2")
    monkeypatch.setattr(storing, "check_compatibility", lambda self, key: Compatibility.USABLE)
    calls, _, told = run(package, cache=False)
    assert calls == 0
    assert "the provider calls it usable, not optimal: 'mace compile' makes it compile again" in told
    monkeypatch.setattr(storing, "refuse_blobs", True)
    refused("the chip says no")


def test_other_shapes_and_other_devices_are_told_too(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    package = tmp_path / "m.mace"
    compiled(chain("Neg", "Abs"), package, shapes={"x": (1, 4)})
    calls, found, told = run(package, np.ones((3, 4), np.float32))
    assert (calls, found.shape) == (1, (3, 4))
    assert "it holds nothing of far for these subgraphs and shapes (it was compiled for x=1x4)" in told
    near = make_provider("near")
    with mace.Session(package, devices=["near"], registry=registry_of(near)) as session:
        session.run({"x": X})
        assert "it holds nothing for near (it was compiled for far:0)" in str(session.explain().preparations[-1])
    assert near.opened[0].compile_calls == 1
    assert sum("nothing that was compiled there serves" in one.getMessage() for one in caplog.records) == 2


def test_what_was_compiled_anew_is_in_the_cache_the_next_time(tmp_path: Path) -> None:
    package = tmp_path / "m.mace"
    compiled(chain("Neg", "Abs"), package, shapes={"x": (1, 4)})
    wide = np.ones((3, 4), np.float32)
    assert run(package, wide)[0] == 1
    calls, _, told = run(package, wide)
    assert calls == 0
    assert "restored from the cache" in told
    assert "not from" in told


def test_several_signatures(tmp_path: Path) -> None:
    package = tmp_path / "m.mace"
    found = compiled(chain("Neg", "Abs"), package, shapes=[{"x": (n, 4)} for n in (1, 2, 5, 7, 8)])
    assert [target.signature for target in found.targets] == ["x=1x4", "x=2x4", "x=5x4", "x=7x4", "x=8x4"]
    far = make_provider("far")
    with mace.Session(package, devices=["far"], registry=registry_of(far)) as session:
        for n in (8, 1, 7, 2, 5):
            assert session.run({"x": np.ones((n, 4), np.float32)})["y"].shape == (n, 4)
    assert far.opened[0].compile_calls == 0


def test_a_device_for_part_of_the_model(tmp_path: Path) -> None:
    nodes = [op("Neg", ["x"], ["t"]), op("Exp", ["t"], ["u"]), op("Abs", ["u"], ["y"])]
    given = model(nodes, [tensor("x", [1, 4])], [tensor("y", [1, 4])])
    far = make_provider("far", claims={"Neg", "Abs"})
    package = tmp_path / "m.mace"
    (target,) = mace.compile(given, package, devices="far", registry=registry_of(far)).targets
    assert (target.compiled, target.nodes, target.subgraphs) == (2, 3, 2)
    assert dict(target.elsewhere) == {"far has no Exp": ("Exp_u",)}
    again = make_provider("far", claims={"Neg", "Abs"})
    with mace.Session(package, devices=["far"], registry=registry_of(again)) as session:
        np.testing.assert_allclose(session.run({"x": X})["y"], np.exp(-X), rtol=1e-6)
    assert again.opened[0].compile_calls == 0
    before = package.read_bytes()
    with pytest.raises(StrictPlacementError, match="far has no Exp"):
        mace.compile(given, package, devices="far", registry=registry_of(far), strict=True)
    assert package.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir() if file.suffix != ""] == ["m.mace"]


def test_later_stages_are_told_and_not_strict(tmp_path: Path) -> None:
    package = tmp_path / "m.mace"
    found = compiled(nonzero_model(), package, shapes={"x": (2, 4)})
    (target,) = found.targets
    assert any("known only once the nodes before it have run" in why for why in target.elsewhere)
    assert 0 < target.share < 1
    with pytest.raises(StrictPlacementError, match="strict compilation: "):
        compiled(nonzero_model(), package, shapes={"x": (2, 4)}, strict=True)


def test_several_devices_in_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "m.mace"
    registry = registry_of(make_provider("far"), make_provider("near"))
    found = mace.compile(chain("Neg", shape=(1, 4)), package, devices=["far", "near", "far:0"], registry=registry)
    assert [target.device for target in found.targets] == ["far:0", "near:0"]
    for name in ("far", "near"):
        provider = make_provider(name)
        with mace.Session(package, devices=[name], registry=registry_of(provider)) as session:
            np.testing.assert_array_equal(session.run({"x": X})["y"], -X)
        assert provider.opened[0].compile_calls == 0


def test_inputs_with_defaults_can_be_fed(tmp_path: Path) -> None:
    given = model(
        [op("Mul", ["w", "w"], ["s"]), op("Mul", ["x", "s"], ["y"])],
        [tensor("x", [1, 4]), tensor("w", [1])],
        [tensor("y", [1, 4])],
        [constant("w", np.float32([2]))],
    )
    package = tmp_path / "m.mace"
    compiled(given, package)
    far = make_provider("far")
    with mace.Session(package, devices=["far"], registry=registry_of(far)) as session:
        assert [spec.name for spec in session.inputs] == ["x", "w"]
        np.testing.assert_array_equal(session.run({"x": X})["y"], 4 * X)
        assert far.opened[0].compile_calls == 0
        np.testing.assert_array_equal(session.run({"x": X, "w": np.float32([3])})["y"], 9 * X)


def test_a_package_is_a_model_to_compile(tmp_path: Path) -> None:
    first, second = tmp_path / "a.mace", tmp_path / "b.mace"
    compiled(chain("Neg", "Abs", shape=(1, 4)), first)
    compiled(first, second)
    compiled(first, first)
    for package in (first, second):
        assert run(package)[0] == 0
    assert [part.device for part in compiled_parts(open_package(second))] == ["far:0"]


@pytest.mark.parametrize(
    ("arguments", "error", "told"),
    [
        ({"devices": []}, UsageError, "devices is empty"),
        ({"devices": ["faar"]}, DeviceNotFoundError, "faar"),
        ({"devices": ["far"], "shapes": {"z": (1, 4)}}, InputError, "'z'"),
        ({"devices": ["far"], "shapes": {"x": (1, 5)}}, InputError, "'x'"),
        ({"devices": ["far"], "options": {"far": {"sped": 1}}}, UsageError, "no option 'sped'"),
        ({"devices": ["reference"]}, UnsupportedError, "reference:0 has no form"),
    ],
)
def test_what_means_nothing_is_told_and_nothing_written(
    tmp_path: Path, arguments: dict[str, Any], error: type[Exception], told: str
) -> None:
    out = tmp_path / "m.mace"
    with pytest.raises(error, match=told):
        mace.compile(chain("Neg"), out, registry=registry_of(make_provider("far")), **arguments)
    assert not out.exists()


def test_names_and_places_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"ends in \.mace, not 'm\.onnx': write to 'm\.mace'"):
        compiled(chain("Neg"), tmp_path / "m.onnx")
    with pytest.raises(mace.errors.MaceError, match="cannot be written: No such file or directory"):
        compiled(chain("Neg", shape=(1, 4)), tmp_path / "nowhere" / "m.mace")


def test_nothing_of_the_model_for_a_device(tmp_path: Path) -> None:
    far = make_provider("far", claims={"Abs"})
    with pytest.raises(UnsupportedError, match=r"nothing can be compiled for far:0 \(Neg_y: far has no Neg\)"):
        mace.compile(chain("Neg", shape=(1, 4)), tmp_path / "m.mace", devices="far", registry=registry_of(far))
    assert not (tmp_path / "m.mace").exists()


def test_an_interrupted_compilation_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "m.mace"
    compiled(chain("Neg", shape=(1, 4)), package)
    before = package.read_bytes()

    def interrupted(*given: object) -> bytes:
        raise KeyboardInterrupt

    monkeypatch.setattr("mace_core.package.writer.pack_table", interrupted)
    with pytest.raises(KeyboardInterrupt):
        compiled(chain("Abs", shape=(1, 4)), package)
    assert package.read_bytes() == before
    assert sorted(file.name for file in tmp_path.glob("*m.mace*")) == ["m.mace"]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (chain("Neg").SerializeToString(), "is not a MACE package"),
        (b"PK\x03\x04" + bytes(300), "it is a zip archive: unpack it with unzip"),
        (b"<html><head></head></html>" * 10, "it is a web page"),
    ],
)
def test_files_that_are_packages_by_name_alone(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "m.mace"
    path.write_bytes(content)
    with pytest.raises(PackageError, match=told):
        mace.Session(path, devices=["far"], registry=registry_of(make_provider("far")))


def test_a_package_by_another_name_is_known_by_its_content(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    compiled(chain("Neg", shape=(1, 4)), tmp_path / "m.mace")
    (tmp_path / "m.mace").rename(path)
    assert run(path)[0] == 0


WITHOUT_ONNX = """
import sys
sys.modules["onnx"] = None
sys.modules["google.protobuf"] = None
import numpy as np, mace_core as mace
with mace.Session(sys.argv[1], devices=["cpu"], strict=True) as session:
    found = session.run({"x": np.load(sys.argv[2])})["y"]
    assert "restored from" in str(session.explain().preparations[0]), session.explain().preparations
np.save(sys.argv[3], found)
assert not {"numba", "mace_cpu.shared.registry"} & sys.modules.keys()
"""


def test_a_new_process_needs_neither_onnx_nor_a_compiler_nor_the_model(tmp_path: Path) -> None:
    pytest.importorskip("mace_cpu")
    source, package = tmp_path / "m.onnx", tmp_path / "m.mace"
    weights = np.random.default_rng(0).standard_normal((4, 200, 3, 3), np.float32)
    weights = np.repeat(weights, 20, 1)  # large enough to lie in a pack of its own
    onnx.save(
        model(
            [op("Conv", ["x", "w"], ["t"], pads=[1, 1, 1, 1]), op("Relu", ["t"], ["y"])],
            [tensor("x", [1, 4000, 6, 6])],
            [tensor("y", [1, 4, 6, 6])],
            [constant("w", weights)],
        ),
        source,
    )
    feed = np.random.default_rng(1).standard_normal((1, 4000, 6, 6), np.float32)
    np.save(tmp_path / "x.npy", feed)
    with mace.Session(source, devices=["cpu"]) as session:
        expected = session.run({"x": feed})["y"]
    found = mace.compile(source, package, devices=["cpu"])
    assert found.packed_bytes >= weights.nbytes
    assert found.compiled_bytes < weights.nbytes
    source.unlink()
    arguments = [str(package), str(tmp_path / "x.npy"), str(tmp_path / "y.npy")]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_ONNX, *arguments],
        env={**os.environ, "MACE_CACHE_DIR": str(tmp_path / "other")},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), expected)
