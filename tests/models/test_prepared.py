"""Prepared subgraphs and placements: a second process plans, packs and compiles nothing, and is right all the same."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import mace_core as mace
from mace_core.native.image import can_load_images
from mace_core.native.relocations import processor_of
from mace_core.session import Session

SCRIPT = """
import json, sys
import numpy as np
import mace_core as mace
options = json.loads(sys.argv[2])
with mace.Session(sys.argv[1], devices=["cpu"], **options) as session:
    outputs = [session.run({"x": np.linspace(-1, 1, 3 * size * size, dtype=np.float32).reshape(1, 3, size, size)})
               for size in json.loads(sys.argv[3])]
    found = session.explain()
modules = ("onnx", "numba", "llvmlite.binding", "mace_core.operators.registry", "mace_core.operators.standard",
           "mace_cpu.shared.registry",
           "mace_cpu.shared.program.program", "mace_cpu.conv", "importlib.metadata", "stevedore", "psutil")
print(json.dumps({
    "loaded": [name for name in modules if name in sys.modules],
    "restored": [one.restored for one in found.preparations],
    "outputs": [float(np.abs(output).sum()) for run in outputs for output in run.values()],
    "exact": [output.tobytes().hex()[:400] for run in outputs for output in run.values()],
    "text": [line for line in str(found).splitlines() if " in " not in line or "partition" in line],
}))
"""

Start = Callable[..., dict[str, Any]]


def write_model(path: Path, *, scale: float = 1.0, free: bool = False) -> Path:
    """A small network with packed weights, fusion, constants of several kinds and a second output."""
    rng = np.random.default_rng(1)

    def weights(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array((scale * rng.normal(0, 0.2, shape)).astype(np.float32), name)

    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], pads=[1, 1, 1, 1], group=24),
        helper.make_node("HardSwish", ["c2"], ["h2"]),
        helper.make_node("Conv", ["h2", "w3", "b3"], ["c3"]),
        helper.make_node("Erf", ["c3"], ["e3"]),
        helper.make_node("GlobalAveragePool", ["e3"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "w4", "b4"], ["g"]),
        helper.make_node("Softmax", ["g"], ["y"]),
    ]
    dims: list[Any] = ["n", 3, "h", "w"] if free else [1, 3, 32, 32]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, dims)],
        [
            helper.make_tensor_value_info("y", TensorProto.FLOAT, None),
            helper.make_tensor_value_info("e3", TensorProto.FLOAT, None),
        ],
        [
            weights("w1", 24, 3, 3, 3),
            weights("b1", 24),
            weights("w2", 24, 1, 3, 3),
            weights("w3", 40, 24, 1, 1),
            weights("b3", 40),
            weights("w4", 40, 300),
            weights("b4", 300),
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "m.onnx")


def starter(folder: Path) -> Start:
    """Runs a model in a fresh process over one cache folder."""

    def start(
        path: Path, sizes: tuple[int, ...] = (32,), cache: Path = folder / "cache", **options: Any
    ) -> dict[str, Any]:
        environment = {**os.environ, "MACE_CACHE_DIR": str(cache), **options.pop("environment", {})}
        command = [sys.executable, "-c", SCRIPT, str(path), json.dumps(options), json.dumps(sizes)]
        done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        found["told"] = done.stderr
        return found

    return start


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Kernels of the models here, each compiled once."""
    folder = tmp_path_factory.mktemp("compiled")
    start = starter(folder)
    start(write_model(folder / "m.onnx"))
    start(folder / "m.onnx", environment={"MACE_CPU_FEATURES": "baseline"})
    return folder / "cache" / "kernels"


@pytest.fixture
def cold_start(tmp_path: Path) -> Start:
    """Starts whose first one has to do all."""
    return starter(tmp_path)


@pytest.fixture
def start(tmp_path: Path, compiled: Path) -> Start:
    """Starts whose first one has to do all but compile."""
    shutil.copytree(compiled, tmp_path / "cache" / "kernels")
    return starter(tmp_path)


@pytest.fixture
def start_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Start:
    """Starts in this process: sessions that share nothing but the cache folder, and kernels that were loaded."""

    def start(
        path: Path, sizes: tuple[int, ...] = (32,), environment: dict[str, str] | None = None, **options: Any
    ) -> dict[str, Any]:
        pictures = [np.linspace(-1, 1, 3 * n * n, dtype=np.float32).reshape(1, 3, n, n) for n in sizes]
        with monkeypatch.context() as patch:
            for name, value in {"MACE_CACHE_DIR": str(tmp_path / "cache"), **(environment or {})}.items():
                patch.setenv(name, value)
            with Session(str(path), devices=["cpu"], **options) as session:
                outputs = [output for picture in pictures for output in session.run({"x": picture}).values()]
                found = session.explain()
        return {
            "restored": [one.restored for one in found.preparations],
            "outputs": [float(np.abs(output).sum()) for output in outputs],
            "exact": [output.tobytes().hex()[:400] for output in outputs],
            "text": str(found).splitlines(),
        }

    return start


def entries(folder: Path, kind: str) -> list[Path]:
    return sorted((folder / "cache" / kind).glob("*.entry"))


# --- what a warm start does -------------------------------------------------------------------------------------------


def test_a_second_process_neither_plans_nor_compiles(cold_start: Start, model: Path) -> None:
    cold, warm = cold_start(model), cold_start(model)
    assert cold["restored"] == [False]
    assert warm["restored"] == [True]
    assert warm["exact"] == cold["exact"]
    light = can_load_images() and processor_of() is not None and sys.platform == "linux"
    assert warm["loaded"] == ([] if light else warm["loaded"])
    assert not {
        "onnx",
        "numba",
        "mace_cpu.shared.registry",
        "mace_cpu.shared.program.program",
        "mace_cpu.conv",
        "psutil",
    } & set(warm["loaded"])


def test_explanations_say_the_same_with_the_same_reasons(start: Start, model: Path) -> None:
    cold, warm = start(model), start(model)
    assert warm["text"] == cold["text"]
    assert any("first choice" in line for line in warm["text"])


def test_another_shape_is_planned_when_it_comes(start_here: Start, tmp_path: Path) -> None:
    path = write_model(tmp_path / "free.onnx", free=True)
    assert start_here(path, (32,))["restored"] == [False]
    both = start_here(path, (32, 48))
    assert both["restored"] == [True, False]
    # a second shape makes a plan for many: whoever begins with that one needs no other plan
    again = start_here(path, (48, 32))
    assert again["restored"] == [True]
    assert start_here(path, (32, 48))["restored"] == [True, True]
    for found in (again["exact"][2:], again["exact"][:2]):
        assert found in (both["exact"][:2], both["exact"][2:])


def test_weights_in_memory_instead_of_a_mapped_file(start_here: Start, model: Path) -> None:
    cold = start_here(model)
    read = start_here(model, mmap=False)
    assert read["restored"] == [True]
    assert read["exact"] == cold["exact"]


# --- what makes it another start --------------------------------------------------------------------------------------


def test_options_devices_and_pins_are_told_apart(start_here: Start, model: Path) -> None:
    changes: list[dict[str, Any]] = [
        {},
        {"options": {"cpu": {"threads": 1}}},
        {"options": {"cpu": {"threads": 2}}},
        {"options": {"cpu": {"features": "baseline"}}},
        {"strict": True},
    ]
    exact = {}
    for change in changes:
        cold = start_here(model, **change)
        # a blob does not depend on strictness; the placement does, and is made again
        assert cold["restored"] == [change == {"strict": True}]
        exact[json.dumps(change)] = cold["exact"]
    for change in changes:
        warm = start_here(model, **change)
        assert warm["restored"] == [True], change
        assert warm["exact"] == exact[json.dumps(change)]
    pinned = start_here(model, pins={"Softmax": "reference"})
    assert len(pinned["restored"]) == 2
    assert any("reference:0: 1 node" in line for line in pinned["text"])
    np.testing.assert_allclose(pinned["outputs"], start_here(model)["outputs"], rtol=1e-4)


def test_the_default_number_of_threads_is_part_of_it(start: Start, model: Path) -> None:
    """Work is split when a plan is made: one made for two processors is not used where there is one."""
    if not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs two processors")
    start(model)
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert start(model)["restored"] == [False]
    finally:
        os.sched_setaffinity(0, before)


def test_features_of_the_environment_are_part_of_it(start_here: Start, model: Path) -> None:
    start_here(model)
    assert start_here(model, environment={"MACE_CPU_FEATURES": "baseline"})["restored"] == [False]


def test_a_changed_model_is_another_model(start_here: Start, model: Path) -> None:
    before = start_here(model)
    write_model(model, scale=2.0)
    after = start_here(model)
    assert after["restored"] == [False]
    assert after["outputs"] != before["outputs"]


def test_a_provider_that_is_gone_is_not_taken_from_the_cache(start: Start, model: Path) -> None:
    start(model)
    without = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(model), "{}", "[32]"],
        env={**os.environ, "MACE_CACHE_DIR": str(model.parent / "cache"), "MACE_DISABLE_PLUGINS": "cpu"},
        check=False,
        capture_output=True,
        text=True,
    )
    assert without.returncode != 0
    assert "switched off by MACE_DISABLE_PLUGINS" in without.stderr


def test_another_build_of_the_provider_compiles_anew(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mace_cpu.backend import CpuBackend

    monkeypatch.setenv("MACE_CACHE_DIR", str(tmp_path / "cache"))
    feed = {"x": np.ones((1, 3, 32, 32), np.float32)}

    def restored() -> list[bool]:
        with Session(str(model), devices=["cpu"]) as session:
            session.run(feed)
            return [one.restored for one in session.explain().preparations]

    assert restored() == [False]
    assert restored() == [True]
    monkeypatch.setattr(CpuBackend, "compatibility_key", lambda self: "another build")
    assert restored() == [False]
    assert restored() == [True]


# --- damage, crowds and misery ----------------------------------------------------------------------------------------


@pytest.fixture
def in_process(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Any]]:
    """(outputs, whether each preparation was restored) of a session over one cache folder."""
    monkeypatch.setenv("MACE_CACHE_DIR", str(tmp_path / "cache"))
    feed = {"x": np.linspace(-1, 1, 3 * 32 * 32, dtype=np.float32).reshape(1, 3, 32, 32)}

    def run() -> tuple[dict[str, Any], list[bool]]:
        with mace.Session(str(model), devices=["cpu"]) as session:
            return session.run(feed), [one.restored for one in session.explain().preparations]

    yield run


@pytest.mark.parametrize("kind", ["blobs", "placements"])
def test_entries_damaged_anywhere_are_made_again(in_process: Any, tmp_path: Path, kind: str) -> None:
    right, _ = in_process()
    (path,) = entries(tmp_path, kind)
    whole = path.read_bytes()
    step = max(1, len(whole) // 40)
    for at in [*range(0, len(whole), step), len(whole) - 1]:
        spoilt = bytearray(whole)
        spoilt[at] ^= 1 << at % 8
        path.write_bytes(spoilt)
        found, restored = in_process()
        assert restored == [kind == "placements"], f"byte {at}"  # without its placement a blob is still good
        for name, array in right.items():
            np.testing.assert_array_equal(found[name], array)
        assert path.read_bytes() != spoilt, f"the damage at byte {at} was left in place"
    assert in_process()[1] == [True]


def test_a_placement_whose_blob_is_gone_is_made_again(in_process: Any, tmp_path: Path) -> None:
    right, _ = in_process()
    for path in entries(tmp_path, "blobs"):
        path.unlink()
    found, restored = in_process()
    assert restored == [False]
    np.testing.assert_array_equal(found["y"], right["y"])
    assert in_process()[1] == [True]


def test_three_processes_may_start_for_the_first_time_at_once(cold_start: Start, model: Path) -> None:
    with ThreadPoolExecutor(3) as starters:
        found = list(starters.map(lambda _: cold_start(model), range(3)))
    assert len({json.dumps(one["exact"]) for one in found}) == 1
    last = cold_start(model)
    assert last["restored"] == [True]
    assert last["exact"] == found[0]["exact"]


def test_a_folder_that_can_not_be_written_to_hinders_no_start(cold_start: Start, model: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    found = cold_start(model, cache=tmp_path / "file" / "cache")
    assert found["restored"] == [False]
    assert found["told"].count("cannot be written to") == 1


def test_without_room_nothing_is_kept_and_everything_works(start_here: Start, model: Path, tmp_path: Path) -> None:
    for _ in range(2):
        assert start_here(model, environment={"MACE_CACHE_LIMIT": "1k"})["restored"] == [False]
    assert not entries(tmp_path, "blobs")


def test_entries_over_the_limit_make_room(start_here: Start, tmp_path: Path) -> None:
    """Each model's blob takes about 150 kB; of three, two fit."""
    models = [write_model(tmp_path / f"{index}.onnx", scale=1 + index) for index in range(3)]
    start_here(models[0])
    (blob,) = entries(tmp_path, "blobs")
    limit = {"MACE_CACHE_LIMIT": str(int(blob.stat().st_size * 2.5))}
    for path in models:
        start_here(path, environment=limit)
    assert len(entries(tmp_path, "blobs")) == 2
    assert start_here(models[2], environment=limit)["restored"] == [True]
    assert start_here(models[0], environment=limit)["restored"] == [False]


def test_without_caches_nothing_is_written(start: Start, model: Path, tmp_path: Path) -> None:
    assert start(model, cache=tmp_path / "cache")["restored"] == [False]
    before = sorted((tmp_path / "cache").rglob("*.entry"))
    command = [sys.executable, "-c", SCRIPT, str(model), json.dumps({"cache": False}), "[32]"]
    environment = {**os.environ, "MACE_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    assert json.loads(done.stdout)["restored"] == [False]
    assert sorted((tmp_path / "cache").rglob("*.entry")) == before


def test_the_cache_command_lists_and_clears_them(start: Start, model: Path, tmp_path: Path) -> None:
    start(model)
    environment = {**os.environ, "MACE_CACHE_DIR": str(tmp_path / "cache")}
    command = [sys.executable, "-m", "mace_core.cli.main", "cache"]
    listed = subprocess.run([*command, "list", "--json"], env=environment, check=True, capture_output=True, text=True)
    kinds = json.loads(listed.stdout)["kinds"]
    assert {"blobs", "placements", "graphs", "kernels"} <= set(kinds)
    assert kinds["blobs"]["bytes"] > 50_000
    subprocess.run([*command, "clear"], env=environment, check=True, capture_output=True)
    assert not list((tmp_path / "cache").rglob("*.entry"))
    assert start(model)["restored"] == [False]
