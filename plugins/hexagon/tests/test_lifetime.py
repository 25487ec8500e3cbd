"""Contexts: stored and restored, shared, damaged, freed; several threads; targets that cannot run here."""

from __future__ import annotations

import logging
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hexagon_support import Array, open_backend, small_network
from mace_hexagon.backend import HexagonBackend
from mace_hexagon.provider import HexagonProvider
from mace_hexagon.qnn.handles import QnnContext

from mace_core.errors import DeviceNotFoundError, UnsupportedError
from mace_core.frontend.load import load_model
from mace_core.graph import GraphView
from mace_core.provider import Compatibility, Device, find_device
from mace_core.session import Session
from mace_core.testing.cases import operator_cases
from mace_core.testing.models import sample_image
from mace_core.testing.runner import run_once, view_of

SHAPE = (1, 3, 20, 18)
CASES = {case.name: case for case in operator_cases()}


def network_view() -> GraphView:
    return view_of(load_model(small_network()), {"x": sample_image(SHAPE)})


def case_view(name: str) -> GraphView:
    return view_of(CASES[name].graph(), CASES[name].feeds())


def resident_kib() -> int:
    """Memory of this process."""
    statm = Path("/proc/self/statm")
    if not statm.exists():
        pytest.skip("this system does not tell a process its memory through /proc")
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


def test_subgraphs_compiled_together_share_a_context(backend: HexagonBackend) -> None:
    names = ["Conv 3x3", "Softmax last axis", "MatMul large"]
    views = [case_view(name) for name in names]
    compiled = backend.compile(views)
    assert backend.live_contexts == 1
    blob = backend.serialize(compiled)
    assert blob is not None
    before = [run_once(backend, v, c, CASES[n].feeds()) for v, c, n in zip(views, compiled, names, strict=True)]
    for item in compiled[:-1]:
        item.close()
    assert backend.live_contexts == 1
    compiled[-1].close()
    assert backend.live_contexts == 0
    restored = backend.deserialize(blob, views)
    assert backend.live_contexts == 1
    after = [run_once(backend, v, c, CASES[n].feeds()) for v, c, n in zip(views, restored, names, strict=True)]
    for left, right in zip(before, after, strict=True):
        for name, array in left.items():
            np.testing.assert_array_equal(array, right[name])
    for item in restored:
        item.close()


@pytest.mark.parametrize("place", [3, 0.3, 0.99], ids=["description", "body", "end"])
def test_a_damaged_binary_is_refused_before_the_library_sees_it(backend: HexagonBackend, place: float) -> None:
    seen = case_view("Conv 3x3")
    (compiled,) = backend.compile([seen])
    blob = bytearray(backend.serialize([compiled]) or b"")
    compiled.close()
    blob[int(place if place > 1 else len(blob) * place)] ^= 0xFF
    with pytest.raises(UnsupportedError, match="damaged"):
        backend.deserialize(bytes(blob), [seen])
    assert backend.live_contexts == 0


def test_a_truncated_binary_is_refused(backend: HexagonBackend) -> None:
    seen = case_view("Conv 3x3")
    (compiled,) = backend.compile([seen])
    blob = backend.serialize([compiled]) or b""
    compiled.close()
    with pytest.raises(UnsupportedError, match="damaged"):
        backend.deserialize(blob[:-100], [seen])


def test_what_the_library_refuses_is_unsupported(backend: HexagonBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    (compiled,) = backend.compile([case_view("Conv 3x3")])
    monkeypatch.setattr(QnnContext, "binary", lambda self: b"\x7f" * 4096)
    blob = backend.serialize([compiled]) or b""
    compiled.close()
    with pytest.raises(UnsupportedError, match="does not take the stored context"):
        backend.deserialize(blob, [case_view("Conv 3x3")])


def test_a_binary_is_not_reused_under_other_options(device: Device) -> None:
    half, full = open_backend(device), open_backend(device, precision="float32")
    assert half.check_compatibility(half.compatibility_key()) is Compatibility.OPTIMAL
    assert half.check_compatibility(full.compatibility_key()) is Compatibility.RECOMPILE
    half.close()
    full.close()


def test_a_session_compiles_anew_where_its_cache_is_damaged(
    library_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import onnx

    monkeypatch.setenv("MACE_CACHE_DIR", str(tmp_path / "cache"))
    onnx.save(small_network(), tmp_path / "model.onnx")
    calls: list[str] = []
    compiles, restores = HexagonBackend.compile, HexagonBackend.deserialize

    def compile_(self: HexagonBackend, views: list[GraphView]) -> object:
        calls.append("compile")
        return compiles(self, views)

    def restore(self: HexagonBackend, blob: bytes, views: list[GraphView]) -> object:
        calls.append("restore")
        return restores(self, blob, views)

    def run() -> Array:
        with Session(str(tmp_path / "model.onnx"), devices=["hexagon:v75"], strict=True) as session:
            return session.run({"x": sample_image(SHAPE)})["y"]

    monkeypatch.setattr(HexagonBackend, "compile", compile_)
    monkeypatch.setattr(HexagonBackend, "deserialize", restore)
    first = run()
    assert calls == ["compile"]
    np.testing.assert_array_equal(run(), first)
    assert calls == ["compile", "restore"]  # a second start compiles nothing

    def damaged(self: HexagonBackend, blob: bytes, views: list[GraphView]) -> object:
        return restores(self, blob[:-1], views)

    monkeypatch.setattr(HexagonBackend, "deserialize", damaged)
    with caplog.at_level(logging.INFO, "mace"):
        np.testing.assert_array_equal(run(), first)
    assert calls == ["compile", "restore", "compile"]
    assert "damaged" in caplog.text


def test_two_threads_with_an_execution_each(backend: HexagonBackend) -> None:
    seen = network_view()
    (compiled,) = backend.compile([seen])
    feeds = [{"x": sample_image(SHAPE, seed)} for seed in range(2)]
    alone = [run_once(backend, seen, compiled, each)["y"] for each in feeds]
    assert not np.array_equal(*alone)
    with ThreadPoolExecutor(2) as threads:
        for index, runs in enumerate(
            threads.map(lambda each: [run_once(backend, seen, compiled, each)["y"] for _ in range(4)], feeds)
        ):
            for found in runs:
                np.testing.assert_array_equal(found, alone[index])
    compiled.close()


def test_targets_side_by_side_do_not_disturb_each_other(device: Device) -> None:
    """The emulation keeps its target for the whole process; what is computed shows which one was compiled for."""
    seen, feeds = case_view("Conv 3x3"), CASES["Conv 3x3"].feeds()

    def compute(opened: HexagonBackend) -> Array:
        (compiled,) = opened.compile([seen])
        found = run_once(opened, seen, compiled, feeds)["y0"]
        compiled.close()
        return found

    with Session(CASES["Conv 3x3"].graph(), devices=["reference"], cache=False) as session:
        exact = session.run(feeds)["y0"]
    half, full = open_backend(device), open_backend(device, precision="float32")
    for _ in range(2):
        np.testing.assert_allclose(compute(full), exact, rtol=1e-5, atol=1e-5)
        assert np.abs(compute(half) - exact).max() > 1e-4
    half.close()
    np.testing.assert_allclose(compute(full), exact, rtol=1e-5, atol=1e-5)
    full.close()


def test_v68_has_no_float_arithmetic(library_folder: Path) -> None:
    oldest = next(found for found in HexagonProvider().probe().devices if found.id == "v68")
    opened = open_backend(oldest)
    (rejection,) = opened.capability(case_view("Conv 3x3")).rejections
    assert "quantized numbers only" in rejection.reason
    opened.close()


def test_another_soc_is_compiled_for_and_not_run(library_folder: Path) -> None:
    with pytest.raises(DeviceNotFoundError, match="compile"):
        find_device("hexagon:sm8550", refresh=True)
    target = find_device("hexagon:sm8550", for_execution=False, refresh=True)
    opened = open_backend(target)
    (compiled,) = opened.compile([case_view("Conv 3x3")])
    assert opened.serialize([compiled])
    with pytest.raises(UnsupportedError, match="cannot run here"):
        compiled.new_execution()
    compiled.close()
    opened.close()


def open_files() -> int:
    """File handles of this process."""
    return len(list(Path("/proc/self/fd").iterdir()))


def cycles(device: Device, count: int) -> None:
    seen, feeds = case_view("Conv 3x3"), CASES["Conv 3x3"].feeds()
    for _ in range(count):
        opened = open_backend(device)
        (compiled,) = opened.compile([seen])
        run_once(opened, seen, compiled, feeds)
        compiled.close()
        assert opened.live_contexts == 0
        opened.close()


@pytest.mark.parametrize("count", [30, pytest.param(500, marks=pytest.mark.full)])
def test_opening_compiling_running_closing_leaks_nothing(device: Device, count: int) -> None:
    import gc

    cycles(device, 10)
    gc.collect()
    handles, growth = open_files(), []
    for _ in range(3):  # memory that is lost is lost each time, whatever else the process does meanwhile
        before = resident_kib()
        cycles(device, count // 3)
        gc.collect()
        growth.append(resident_kib() - before)
    assert open_files() == handles
    assert min(growth) < 700 + 10 * (count // 3)  # the library itself keeps some 4 KiB of each compiled graph
