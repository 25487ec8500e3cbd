"""A model whose files are changed is another model, however carefully size and time are kept."""

from __future__ import annotations

import mmap
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mace_core import Session
from mace_core.caching.cache import CheckedCache
from mace_core.frontend import load_model
from mace_core.frontend.warm import load_cached
from mace_core.graph.serialize import graph_fingerprint
from mace_core.tensor import files
from mace_core.tensor.files import file_identity, settled_identity, unsettled_seconds

pytestmark = pytest.mark.skipif(os.name == "nt", reason="this system notes no time of change")


def write_model(path: Path, value: float, *, external: bool) -> Path:
    """``y = x + w``; returns the file that w is in."""
    weights = numpy_helper.from_array(np.full(512, value, np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"], name="add")], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [512])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [512])], [weights],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    if not external:
        onnx.save(model, path)
        return path
    data = path.with_name(path.name + ".data")
    data.unlink(missing_ok=True)  # onnx appends
    onnx.save(model, path, save_as_external_data=True, location=data.name, size_threshold=0)
    return data


def answer(path: Path) -> float:
    with Session(path) as session:
        (found,) = set(session.run({"x": np.zeros(512, np.float32)})["y"].tolist())
        return float(found)


def in_place(target: Path, new: bytes) -> None:
    with target.open("r+b") as file:
        file.write(new)


def through_a_mapping(target: Path, new: bytes) -> None:
    with target.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        mapped[:] = new
        mapped.flush()


def by_renaming_over(target: Path, new: bytes) -> None:
    other = target.with_name("new")
    other.write_bytes(new)
    other.replace(target)


def by_copying_over(target: Path, new: bytes) -> None:
    other = target.with_name("new")
    other.write_bytes(new)
    shutil.copystat(target, other)
    shutil.copy2(other, target)


CHANGES = [in_place, through_a_mapping, by_renaming_over, by_copying_over]


@pytest.mark.parametrize("external", [False, True], ids=["model", "external-data"])
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("pause", [0.0, 0.05])
def test_a_file_of_the_same_size_and_time_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, external: bool, change: Callable[[Path, bytes], None], pause: float
) -> None:
    monkeypatch.setenv("MACE_CACHE_DIR", str(tmp_path / "cache"))
    path = tmp_path / "model.onnx"
    target = write_model(path, 2.0, external=external)
    new = target.read_bytes()
    write_model(path, 1.0, external=external)
    times = target.stat()
    time.sleep(pause)
    assert answer(path) == 1.0
    assert answer(path) == 1.0
    change(target, new)
    os.utime(target, ns=(times.st_atime_ns, times.st_mtime_ns))
    after = target.stat()
    assert (after.st_size, after.st_mtime_ns) == (times.st_size, times.st_mtime_ns)
    assert answer(path) == 2.0


@pytest.mark.parametrize("external", [False, True], ids=["model", "external-data"])
def test_weights_that_were_opened_before_their_file_was_replaced_keep_their_own_name(
    tmp_path: Path, external: bool
) -> None:
    """What is compiled for the old weights must not be stored as that of the new ones."""
    path = tmp_path / "model.onnx"
    target = write_model(path, 1.0, external=external)
    old = load_model(path)
    write_model(tmp_path / "other.onnx", 2.0, external=external)
    (tmp_path / "other.onnx").replace(path) if not external else by_renaming_over(
        target, (tmp_path / "other.onnx.data").read_bytes()
    )
    new = load_model(path)
    assert old.initializers["w"].constant is not None
    assert old.initializers["w"].constant.numpy()[0] == 1.0
    assert graph_fingerprint(old) != graph_fingerprint(new)


def test_a_file_replaced_while_it_is_loaded_is_not_cached_as_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    data = write_model(path, 2.0, external=True)
    new = data.read_bytes()
    write_model(path, 1.0, external=True)
    cache = CheckedCache("graphs", "1", tmp_path / "cache")
    load_cached(path, cache, lambda graph: by_renaming_over(data, new), "1")
    graph, _ = load_cached(path, cache, lambda graph: None, "1")
    assert graph.initializers["w"].constant is not None
    assert graph.initializers["w"].constant.numpy()[0] == 2.0


# --- files that were changed a moment ago -----------------------------------------------------------------------------

SECOND = 1_000_000_000


@pytest.mark.parametrize(
    ("changed", "now", "missing"),
    [
        (5 * SECOND + 1, 5 * SECOND + 1, 0.02),
        (5 * SECOND + 1, 5 * SECOND + 15_000_001, 0.005),
        (5 * SECOND + 1, 5 * SECOND + 20_000_001, 0.0),
        (5 * SECOND, 5 * SECOND + 20_000_001, 1.98),  # whole seconds: a file system that knows no others
        (5 * SECOND, 7 * SECOND, 0.0),
        (9 * SECOND + 1, 5 * SECOND + 1, 4.02),  # a server's clock that is ahead
    ],
)
def test_how_long_a_change_may_go_unnoticed(changed: int, now: int, missing: float) -> None:
    assert unsettled_seconds(changed, now) == pytest.approx(missing, abs=1e-6)


def test_every_change_after_a_settled_identity_shows(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for _ in range(20):
        path.write_bytes(b"old")
        before = settled_identity(path)
        assert before is not None
        path.write_bytes(b"new")
        assert file_identity(path) != before


def test_what_can_not_settle_soon_is_loaded_and_not_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a file system that notes whole seconds: weights count by their bytes then."""
    path = tmp_path / "model.onnx"
    write_model(path, 1.0, external=True)
    cache = CheckedCache("graphs", "1", tmp_path / "cache")
    monkeypatch.setattr(files, "unsettled_seconds", lambda changed, now: 1.5)
    graph, fingerprint = load_cached(path, cache, lambda graph: None, "1")
    source = graph.initializers["w"].constant.source  # type: ignore[union-attr]
    assert source is not None and source.identity is None
    assert cache.entries() == []
    (tmp_path / "copy").mkdir()
    write_model(tmp_path / "copy" / "model.onnx", 1.0, external=True)
    assert graph_fingerprint(load_model(tmp_path / "copy" / "model.onnx")) == fingerprint
