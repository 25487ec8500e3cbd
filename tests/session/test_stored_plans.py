"""Plans of symbolic sizes outlive their process: what the next one finds, and what it does not believe."""

from __future__ import annotations

import itertools
import json
import logging
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest

from benchmarks.shapes.control_flow import loop_growing, loop_slicing, merged_decoder
from benchmarks.shapes.decoder import decoder
from mace_core import Session
from mace_core.caching.mapped import MappedCache
from mace_core.scheduler.planning import structure_files

MODEL = """
    <ir_version: 8, opset_import: ["" : 17]>
    stored (float[n, m] x) => (float[p, q] y, float[r, q] z) {
        zero = Constant <value_ints = [0]> ()
        five = Constant <value_ints = [5]> ()
        h = MatMul (x, w)
        z = Relu (h)
        y = Slice (z, zero, five, zero)
    }"""
"""Fewer than 5 rows are a case of their own."""

COLUMNS = 6


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The kernels of the model, compiled once."""
    folder = tmp_path_factory.mktemp("compiled")
    path = write_model(folder / "model.onnx")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MACE_CACHE_DIR", str(folder / "cache"))
        with Session(path, devices=["cpu"], strict=True) as session:
            for rows in (20, 21, 3, 4):
                session.run(feeds_of(rows))
    return folder / "cache"


@pytest.fixture
def cache(compiled: Path, own_cache: Path) -> Path:
    """A cache folder with kernels and nothing else."""
    shutil.copytree(compiled / "kernels", own_cache / "kernels")
    own_cache.chmod(0o700)
    return own_cache


@pytest.fixture
def model(tmp_path: Path, cache: Path) -> Path:
    return write_model(tmp_path / "model.onnx")


def weights() -> npt.NDArray[np.float32]:
    return np.random.default_rng(3).standard_normal((COLUMNS, 8)).astype(np.float32)


def write_model(path: Path) -> Path:
    proto = onnx.parser.parse_model(MODEL)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(weights(), "w"))
    onnx.save(proto, path)
    return path


def feeds_of(rows: int) -> dict[str, npt.NDArray[Any]]:
    return {"x": np.random.default_rng(rows).standard_normal((rows, COLUMNS)).astype(np.float32)}


def check(session: Session, rows: int) -> None:
    feeds = feeds_of(rows)
    found = session.run(feeds)
    expected = np.maximum(feeds["x"] @ weights(), 0)
    np.testing.assert_allclose(found["z"], expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(found["y"], found["z"][:5])


def start(model: Path, *rows: int, **options: Any) -> list[bool]:
    """What a new session does with some shapes: of each subgraph that it needed, whether it was restored."""
    with Session(model, devices=["cpu"], **{"strict": True, **options}) as session:
        for number in rows:
            check(session, number)
        return [one.restored for one in session.explain().preparations]


def files(cache: Path) -> dict[str, set[Path]]:
    return {kind: set((cache / kind).glob("*.entry")) for kind in ("blobs", "structures", "placements", "resolutions")}


def decoder_stream(path: Path) -> tuple[dict[str, str], Callable[[int], dict[str, Any]]]:
    decoder(path, 2)
    pairs = {f"past_{kind}_{layer}": f"present_{kind}_{layer}" for layer in range(2) for kind in "kv"}
    return pairs, lambda step: {"ids": np.array([[step]], np.int64)}


def merged_stream(path: Path) -> tuple[dict[str, str], Callable[[int], dict[str, Any]]]:
    onnx.save(merged_decoder(), path)
    kinds = [f"{layer}{part}.{kind}" for layer in range(2) for part in ("", ".cross") for kind in ("key", "value")]
    encoded = np.random.default_rng(1).standard_normal((1, 9, 128)).astype(np.float32)
    return {f"past.{name}": f"present.{name}" for name in kinds}, lambda step: {
        "ids": np.array([[step]], np.int64),
        "encoded": encoded,
        "use_cache_branch": np.array([step > 0]),
    }


# --- what is found ----------------------------------------------------------------------------------------------------


def test_a_plan_for_many_shapes_is_made_once(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert start(model, 20, 21, 22) == [False, False]
    with Session(model, devices=["cpu"], strict=True) as session:

        def fail(*_: object) -> None:
            raise AssertionError("something is planned")

        monkeypatch.setattr(session._planner, "resolve", fail)
        monkeypatch.setattr("mace_core.scheduler.running.tracing.traced", fail)
        for rows in (29, 21, 12, 100, 27):
            check(session, rows)
        assert [one.restored for one in session.explain({"x": (29, COLUMNS)}).preparations] == [True]


def test_the_shape_that_was_planned_in_numbers_is_restored_so(model: Path) -> None:
    start(model, 20, 21)
    with Session(model, devices=["cpu"], strict=True) as session:
        check(session, 20)
        assert not session.explain().guards
        check(session, 21)
        assert session.explain().guards
        assert all(one.restored for one in session.explain().preparations)


def test_what_varies_is_seen_from_one_process_to_the_next(model: Path, cache: Path) -> None:
    assert start(model, 20) == [False]
    assert start(model, 21) == [False]  # two processes, two shapes: this one makes a plan for many
    there = files(cache)
    for rows in range(22, 42):
        assert start(model, rows) == [True]
    assert files(cache) == there, "something is written for each shape"


def test_a_plan_made_later_has_all_that_varied_as_symbols(model: Path) -> None:
    start(model, 20, 21)
    assert start(model, 3) == [False]  # no plan there is holds, and one for many is made at once
    assert start(model, 4) == [True]
    assert start(model, 4, 30, 3, 25) == [True, True]


def test_explanations_are_those_of_the_process_that_made_the_plan(model: Path) -> None:
    def explanation(*rows: int) -> list[Any]:
        with Session(model, devices=["cpu"], strict=True) as session:
            for number in rows:
                check(session, number)
            found = session.explain()
        return [found.guards, found.nodes, found.partitions, found.arenas, found.folded]

    assert explanation(20, 21) == explanation(21)


def test_what_cannot_be_planned_for_many_shapes_is_not_tried_again(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[int] = []

    def fail(*_: object) -> None:
        tries.append(1)
        raise ValueError("no sizes today")

    monkeypatch.setattr("mace_core.scheduler.running.tracing.traced", fail)
    start(model, 20, 21, 22, 23)
    assert len(tries) == 2
    with Session(model, devices=["cpu"], strict=True) as session:
        for rows in (24, 25, 26):
            check(session, rows)
        assert session.explain().one_by_one == "ValueError: no sizes today"
    assert len(tries) == 2


def test_a_lack_of_memory_is_no_reason_not_to_try_again(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr("mace_core.scheduler.running.tracing.traced", fail)
        start(model, 20, 21, 22, 23)
    assert start(model, 24) == [False]
    assert start(model, 25) == [True]


@pytest.mark.parametrize("make", [loop_growing, loop_slicing])
def test_bodies_of_loops_are_stored_too(make: Callable[[], onnx.ModelProto], tmp_path: Path, own_cache: Path) -> None:
    path = tmp_path / "loop.onnx"
    onnx.save(make(), path)
    rows = np.linspace(-1, 1, 6 * 64, dtype=np.float32).reshape(6, 64)
    given: dict[str, Any] = {"start": rows[:1]} if make is loop_growing else {"x": rows}

    def run(turns: int) -> tuple[list[bool], list[bytes]]:
        with Session(path, devices=["cpu"]) as session:
            found = session.run({"turns": np.int64(turns), **given})
            return [one.restored for one in session.explain().preparations], [v.tobytes() for v in found.values()]

    cold, results = run(6)
    assert cold and not any(cold)
    warm, again = run(6)
    assert warm and all(warm)
    assert again == results
    assert len(files(own_cache)["structures"]) == 1
    there = files(own_cache)
    run(5)
    run(4)
    assert files(own_cache)["blobs"] == there["blobs"]


@pytest.mark.parametrize("make", [decoder_stream, merged_stream])
def test_streams_whose_caches_grow_in_place_are_stored_too(
    make: Callable[[Path], tuple[dict[str, str], Callable[[int], dict[str, Any]]]], tmp_path: Path
) -> None:
    path = tmp_path / "decoder.onnx"
    pairs, feeds = make(path)

    def run(steps: int) -> tuple[list[bool], list[bytes]]:
        with Session(path, devices=["cpu"], strict=True) as session:
            bound = session.bind(pairs)
            results = [bound.run(feeds(step)) for step in range(steps)]
            return (
                [one.restored for one in session._model.preparations],
                [value.tobytes() for found in results for value in found.values()],
            )

    cold, results = run(7)
    assert cold and not any(cold)
    warm, again = run(7)
    assert warm and all(warm)
    assert again == results


# --- what is told apart -----------------------------------------------------------------------------------------------


def test_options_devices_and_strictness_are_told_apart(model: Path) -> None:
    start(model, 20, 21)
    assert start(model, 22, options={"cpu": {"threads": 1}}) == [False]
    assert start(model, 23, strict=False) == [False]
    assert start(model, 24, pins={"Relu": "cpu"}) == [False]
    assert start(model, 27) == [True]


def test_another_version_forgets_what_was_stored(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start(model, 20, 21)
    monkeypatch.setattr("mace_core.scheduler.planning.model.build_id", lambda: "another")
    assert start(model, 27) == [False]


def test_the_limit_of_work_is_part_of_the_key(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start(model, 20, 21)
    monkeypatch.setenv("MACE_WORK_LIMIT", "1e6")
    assert start(model, 27) == [False]


def test_without_a_cache_nothing_is_stored(model: Path, cache: Path) -> None:
    start(model, 20, 21, cache=False)
    assert not any(files(cache).values())


# --- how much there is ------------------------------------------------------------------------------------------------


def test_a_model_has_so_many_plans_and_no_more(model: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(structure_files, "MOST_STRUCTURES", 1)
    monkeypatch.setattr("mace_core.scheduler.running.structures.MOST_STRUCTURES", 1)
    start(model, 20, 21)
    plans = len(files(cache)["blobs"])
    assert start(model, 4) == [False]  # in numbers: there is no room for another plan
    with Session(model, devices=["cpu"], strict=True) as session:
        check(session, 4)
        assert not session.explain().guards
    assert len(files(cache)["blobs"]) == plans + 1


def test_what_was_added_to_least_recently_is_forgotten(
    model: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(structure_files, "MOST_FAMILIES", 2)
    for threads in (1, 2):
        start(model, 20, 21, options={"cpu": {"threads": threads}})
    before = len(files(cache)["blobs"])
    start(model, 20, 21, strict=False, options={"cpu": {"threads": 1}})
    assert len(files(cache)["structures"]) == 1
    assert len(files(cache)["blobs"]) == before, "one plan is stored, and one forgotten"
    assert start(model, 27, options={"cpu": {"threads": 2}}) == [True]
    assert start(model, 27, options={"cpu": {"threads": 1}}) == [False]


# --- what is not believed ---------------------------------------------------------------------------------------------


def spoil(path: Path, damage: str) -> None:
    content = bytearray(path.read_bytes())
    if damage == "truncated":
        del content[len(content) * 2 // 3 :]
    elif damage == "emptied":
        content.clear()
    elif damage == "foreign":
        content[:] = b"PK\x03\x04" + bytes(200)
    else:
        content[len(content) // 2] ^= 0x10
    path.write_bytes(content)


@pytest.mark.parametrize("damage", ["truncated", "emptied", "foreign", "bit flipped"])
def test_damaged_files_are_made_again(model: Path, cache: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    start(model, 20, 21)
    for kind in ("structures", "blobs"):
        for path in files(cache)[kind]:
            spoil(path, damage)
        with caplog.at_level(logging.INFO, "mace"):
            start(model, 28, 27)
        assert "is not used" in caplog.text
        start(model, 28, 27)
        assert all(start(model, 28, 27))
        assert start(model, 29, 30) == [True]


def plan_entry(cache: Path) -> tuple[Path, str, str]:
    """The one stored plan: its file, its key and the version of its writer."""
    for path in files(cache)["blobs"]:
        content = path.read_bytes()
        _, _, _, version, key, _ = struct.unpack_from("<8sIIIIQ", content)
        texts = content[32 : 32 + version + key].decode()
        if texts[version:].startswith("plan "):
            return path, texts[version:], texts[:version]
    raise AssertionError("no plan is stored")


def rewrite(cache: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change what a stored plan says, with checksums that are right."""
    _, key, version = plan_entry(cache)
    entries = MappedCache("blobs", version, cache)
    content = entries.get(key)
    assert content is not None
    (length,) = struct.unpack_from("<Q", content)
    document = json.loads(content[8 : 8 + length])
    change(document)
    text = json.dumps(document).encode()
    head = struct.pack("<Q", len(text)) + text
    body = content[8 + length + -(8 + length) % 64 :]
    entries.put(key, head + bytes(-len(head) % 64) + body)


def leaves(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(tree, dict | list):
        items = tree.items() if isinstance(tree, dict) else enumerate(tree)
        for key, item in list(items):
            yield from leaves(item, (*path, key))
    else:
        yield path


def put(tree: Any, path: tuple[Any, ...], item: Any) -> None:
    for key in path[:-1]:
        tree = tree[key]
    tree[path[-1]] = item


CODE = "__import__('os').system('touch /tmp/never') or 1"


@pytest.mark.parametrize("item", [CODE, None, [[CODE]], {"a": 1}, 10**40, -(10**40)], ids=str)
def test_what_is_no_plan_is_not_used(
    model: Path, cache: Path, item: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Some leaf of the data is something else, and all checksums are right: nothing of it is run."""
    start(model, 20, 21)
    executed: list[str] = []
    monkeypatch.setattr(os, "system", executed.append)
    path, *_ = plan_entry(cache)
    whole = path.read_bytes()
    _, key, version = plan_entry(cache)
    content = MappedCache("blobs", version, cache).get(key)
    assert content is not None
    (length,) = struct.unpack_from("<Q", content)
    places = list(leaves(json.loads(content[8 : 8 + length])))
    sizes = [place for place in places if place[0] in ("trace", "symbols", "fixed", "expressions", "blobs")]
    for place in itertools.islice(sizes, 0, None, 3):
        path.write_bytes(whole)
        rewrite(cache, lambda document, place=place: put(document, place, item))  # type: ignore[misc]
        start(model, 28)
    assert not executed


def test_a_plan_of_other_nodes_is_not_used(model: Path, cache: Path) -> None:
    start(model, 20, 21)
    rewrite(cache, lambda document: document["placement"]["nodes"].append("one more"))
    assert start(model, 28) == [False]
    assert start(model, 28) == [True]


def test_a_plan_for_other_numbers_is_not_used(model: Path, cache: Path) -> None:
    """What another process put in its place: the index says one thing, the plan another."""
    start(model, 20, 21)
    rewrite(cache, lambda document: put(document, ("fixed", 0, 1), COLUMNS + 1))
    assert start(model, 28) == [False]


def test_a_plan_whose_weights_are_gone_is_made_again(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "large.onnx"
    proto = onnx.parser.parse_model(MODEL)
    large = np.random.default_rng(3).standard_normal((300, 200)).astype(np.float32)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(large, "w"))
    onnx.save(proto, path)

    def run(*rows: int) -> list[bool]:
        with Session(path, devices=["cpu"], strict=True) as session:
            for number in rows:
                x = np.ones((number, 300), np.float32)
                np.testing.assert_allclose(session.run({"x": x})["z"], np.maximum(x @ large, 0), rtol=1e-4, atol=1e-4)
            return [one.restored for one in session.explain().preparations]

    run(20, 21)
    assert run(27) == [True]
    largest = max(files(cache)["blobs"], key=lambda entry: entry.stat().st_size)
    largest.unlink()
    assert run(28) == [False]
    assert run(29) == [True]


# --- at the same time -------------------------------------------------------------------------------------------------

SCRIPT = """
import sys, numpy as np, mace_core
with mace_core.Session(sys.argv[1], devices=["cpu"], strict=True) as session:
    for rows in map(int, sys.argv[2:]):
        session.run({"x": np.ones((rows, 6), np.float32)})
"""


def test_processes_that_store_at_once(model: Path, cache: Path) -> None:
    shapes = [("20", "21"), ("21", "29", "4", "3"), ("3", "4", "28")]
    processes = [subprocess.Popen([sys.executable, "-c", SCRIPT, str(model), *rows]) for rows in shapes]
    assert [process.wait(240) for process in processes] == [0, 0, 0]
    start(model, 21, 3)
    assert start(model, 30) == [True]
    assert not list(cache.rglob(".new-*"))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_stores_and_finds(model: Path, cache: Path) -> None:
    start(model, 20)
    with Session(model, devices=["cpu"], strict=True) as session:
        check(session, 20)
        child = os.fork()
        if child == 0:
            try:
                check(session, 21)
            except BaseException:
                os._exit(1)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert start(model, 27) == [True]
        check(session, 28)
