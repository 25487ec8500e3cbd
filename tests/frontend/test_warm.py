"""The second start of a model: from the cache, without parsing the model file."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from onnx_models import everything

from mace_core.caching.cache import CheckedCache
from mace_core.errors import ModelError
from mace_core.frontend import load_model
from mace_core.frontend.onnx.export import save_onnx
from mace_core.frontend.warm import load_cached
from mace_core.graph import Graph, Value
from mace_core.graph.compare import graph_difference
from mace_core.graph.serialize import graph_fingerprint
from mace_core.tensor import Tensor


class Optimizer:
    """Adds a constant of its own, and counts how often it was asked."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, graph: Graph) -> None:
        self.calls += 1
        graph.initializers["folded"] = Value("folded", constant=Tensor.from_numpy(np.arange(50.0)))


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    path = tmp_path / "m.onnx"
    path.write_bytes(everything().SerializeToString())
    return path


@pytest.fixture
def cache(tmp_path: Path) -> CheckedCache:
    return CheckedCache("graphs", "1", tmp_path / "cache")


def test_the_second_time_the_graph_comes_from_the_cache(model_file: Path, cache: CheckedCache) -> None:
    optimize = Optimizer()
    first, one = load_cached(model_file, cache, optimize, "1.0")
    second, two = load_cached(model_file, cache, optimize, "1.0")
    assert optimize.calls == 1
    assert graph_difference(first, second) is None and "folded" in second.initializers
    assert one == two == graph_fingerprint(first) == graph_fingerprint(second)


@pytest.mark.parametrize("change", ["content", "time", "version", "path"])
def test_anything_else_is_loaded_anew(model_file: Path, cache: CheckedCache, change: str) -> None:
    optimize = Optimizer()
    load_cached(model_file, cache, optimize, "1.0")
    version = "1.0"
    match change:
        case "content":
            graph = load_model(model_file, mmap=False)
            graph.metadata["new"] = "x"
            save_onnx(graph, model_file)
        case "time":
            os.utime(model_file, ns=(1, 1))
        case "version":
            version = "1.1"
        case "path":
            model_file = model_file.rename(model_file.with_name("other.onnx"))
    graph, _ = load_cached(model_file, cache, optimize, version)
    assert optimize.calls == 2
    assert ("new" in graph.metadata) == (change == "content")


def test_external_weights_are_watched_too(model_file: Path, cache: CheckedCache, tmp_path: Path) -> None:
    graph = load_model(model_file)
    graph.initializers["big"] = Value("big", constant=Tensor.from_numpy(np.arange(1000, dtype=np.float32)))
    path = tmp_path / "external.onnx"
    save_onnx(graph, path, external_data=True)
    optimize = Optimizer()
    load_cached(path, cache, optimize, "1")
    load_cached(path, cache, optimize, "1")
    assert optimize.calls == 1
    data = path.with_name("external.onnx.data")
    content = bytearray(data.read_bytes())
    content[-4:] = np.float32(7).tobytes()
    data.write_bytes(content)
    os.utime(data, ns=(5, 5))  # even a clock of coarse ticks sees this
    again, _ = load_cached(path, cache, optimize, "1")
    assert optimize.calls == 2
    constant = again.initializers["big"].constant
    assert constant is not None and constant.numpy()[-1] == 7
    data.unlink()
    with pytest.raises(ModelError, match="missing"):
        load_cached(path, cache, optimize, "1")


def test_damaged_entries_are_rebuilt(model_file: Path, cache: CheckedCache) -> None:
    optimize = Optimizer()
    first, _ = load_cached(model_file, cache, optimize, "1")
    (entry,) = cache.directory.iterdir()
    content = entry.read_bytes()
    flipped = bytearray(content)
    flipped[len(flipped) // 2] ^= 4
    for calls, damaged in enumerate((content[: len(content) // 2], bytes(flipped), b""), start=2):
        entry.write_bytes(damaged)
        graph, _ = load_cached(model_file, cache, optimize, "1")
        assert optimize.calls == calls
        assert graph_difference(first, graph) is None


def test_an_entry_that_is_sound_but_no_graph_is_replaced(model_file: Path, cache: CheckedCache) -> None:
    optimize = Optimizer()
    load_cached(model_file, cache, optimize, "1")
    (key,) = cache.entries()
    cache.put(key, b"\x02\0\0\0{}")
    load_cached(model_file, cache, optimize, "1")
    load_cached(model_file, cache, optimize, "1")
    assert optimize.calls == 2


def test_a_model_that_can_not_be_read_leaves_no_entry(tmp_path: Path, cache: CheckedCache) -> None:
    path = tmp_path / "bad.onnx"
    path.write_bytes(b"\x08\x01garbage")
    with pytest.raises(ModelError):
        load_cached(path, cache, Optimizer(), "1")
    with pytest.raises(ModelError, match="there is no model file"):
        load_cached(tmp_path / "gone.onnx", cache, Optimizer(), "1")
    assert cache.entries() == []


def test_a_warm_start_imports_no_onnx(model_file: Path, tmp_path: Path) -> None:
    script = f"""
    import sys
    from pathlib import Path
    from mace_core.caching.cache import CheckedCache
    from mace_core.frontend.warm import load_cached
    cache = CheckedCache("graphs", "1", Path({str(tmp_path / "c")!r}))
    graph, fingerprint = load_cached({str(model_file)!r}, cache, lambda graph: None, "1")
    print(fingerprint, len(graph.nodes), any(m == "onnx" or m.startswith("onnx.") for m in sys.modules))
    """
    runs = [
        subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True, capture_output=True, text=True)
        for _ in range(2)
    ]
    cold, warm = (run.stdout.split() for run in runs)
    assert cold[:2] == warm[:2]
    assert (cold[2], warm[2]) == ("True", "False")
