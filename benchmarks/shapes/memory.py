"""Memory, cache folder and descriptors of sessions whose input shapes change.

Run as ``python -m benchmarks.shapes.memory``.  Every figure is taken in a process of its own, with a cache folder of
its own, and printed beside onnxruntime's for the same model and shapes.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import psutil
from onnx import TensorProto, helper, numpy_helper

MIB = 1 << 20
ENGINES = ("mace", "onnxruntime")


def matmul_model(path: Path, *, layers: int = 12, width: int = 1024) -> None:
    """``layers`` products of (N, width) with (width, width): 4 MiB of weights each at width 1024."""
    rng = np.random.default_rng(0)
    names = [f"x{i}" for i in range(layers + 1)]
    weights = [
        numpy_helper.from_array((rng.standard_normal((width, width)) / width**0.5).astype(np.float32), f"w{i}")
        for i in range(layers)
    ]
    nodes = [helper.make_node("MatMul", [names[i], f"w{i}"], [names[i + 1]]) for i in range(layers)]
    _save(path, nodes, names, ["N", width], ["N", width], weights)


def conv_model(path: Path, *, layers: int = 9, channels: int = 256) -> None:
    """``layers`` convolutions of 3x3 over (1, channels, 16, W): 2.25 MiB of weights each at 256 channels."""
    rng = np.random.default_rng(0)
    names = [f"x{i}" for i in range(layers + 1)]
    shape = (channels, channels, 3, 3)
    weights = [
        numpy_helper.from_array((rng.standard_normal(shape) / (9 * channels) ** 0.5).astype(np.float32), f"w{i}")
        for i in range(layers)
    ]
    nodes = [
        helper.make_node("Conv", [names[i], f"w{i}"], [names[i + 1]], pads=[1, 1, 1, 1], kernel_shape=[3, 3])
        for i in range(layers)
    ]
    _save(path, nodes, names, [1, channels, 16, "W"], [1, channels, 16, "W"], weights)


def large_arena_model(path: Path) -> None:
    """Two convolutions over (1, 16, 256, W) and nothing to speak of in weights: intermediate results dominate."""
    conv_rng = np.random.default_rng(0)
    names = [f"x{i}" for i in range(4)]
    weights = [
        numpy_helper.from_array(conv_rng.standard_normal((16, 16, 3, 3)).astype(np.float32) / 12, f"w{i}")
        for i in range(3)
    ]
    nodes = [
        helper.make_node("Conv", [names[i], f"w{i}"], [names[i + 1]], pads=[1, 1, 1, 1], kernel_shape=[3, 3])
        for i in range(3)
    ]
    _save(path, nodes, names, [1, 16, 256, "W"], [1, 16, 256, "W"], weights)


def _save(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    names: Sequence[str],
    entry: Sequence[Any],
    result: Sequence[Any],
    weights: Sequence[onnx.TensorProto],
) -> None:
    graph = helper.make_graph(
        nodes,
        "shapes",
        [helper.make_tensor_value_info(names[0], TensorProto.FLOAT, entry)],
        [helper.make_tensor_value_info(names[-1], TensorProto.FLOAT, result)],
        list(weights),
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)


# --- one process ------------------------------------------------------------------------------------------------------


def process_bytes() -> int:
    """Memory of this process that is in use now, shared pages included."""
    return int(psutil.Process().memory_info().rss)


def folder_bytes(folder: str | os.PathLike[str]) -> tuple[int, int]:
    """Files below a folder: how many, and their bytes on disk."""
    files = [path for path in Path(folder).rglob("*") if path.is_file()]
    return len(files), sum(path.stat().st_blocks * 512 for path in files)


def descriptors() -> int:
    """Open descriptors of this process."""
    return psutil.Process().num_fds()


def open_engine(engine: str, model: Path, threads: int) -> tuple[Callable[[Any], Any], Callable[[], None]]:
    """What runs the model on one input, and what closes it."""
    if engine == "mace":
        import mace_core

        session = mace_core.Session(model, devices=["cpu"], options={"cpu": {"threads": threads}}, strict=True)
        name = session.inputs[0].name
        return lambda array: session.run({name: array}), session.close
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    held = [onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])]
    name = held[0].get_inputs()[0].name
    return lambda array: held[0].run(None, {name: array}), held.clear


def shapes_of(kind: str, count: int) -> Iterator[tuple[int, ...]]:
    """``count`` shapes of a model's input."""
    for i in range(1, count + 1):
        yield {"matmul": (i, 1024), "conv": (1, 256, 16, 8 * i), "arena": (1, 16, 256, 64 * i)}[kind]


def measure(engine: str, kind: str, model: Path, counts: Sequence[int], threads: int) -> dict[str, Any]:
    """Memory after as many shapes as ``counts`` says, and after closing, in MiB over what the process had before.

    Before that a model of a few KiB has run: what the engine itself takes, its compiler included, is told apart.
    """
    import onnxruntime  # noqa: F401 - what importing costs is no part of it

    empty = process_bytes()
    warm = model.with_name("warm.onnx")
    matmul_model(warm, layers=1, width=64)
    run, close = open_engine(engine, warm, 2)
    for rows in (1, 7, 8):  # imports the engine and all of its compiler, which stay
        run(np.ones((rows, 64), np.float32))
    close()
    gc.collect()
    trim()
    before, fds = process_bytes(), descriptors()
    run, close = open_engine(engine, model, 2)
    found: dict[str, Any] = {"engine": round((before - empty) / MIB)}
    shapes = list(shapes_of(kind, max(counts)))
    for number, shape in enumerate(shapes, 1):
        array = np.ones(shape, np.float32)
        if threads == 1:
            run(array)
        else:
            _at_once(threads, run, array)
        del array
        if number in counts:
            gc.collect()
            trim()
            found[f"after {number}"] = round((process_bytes() - before) / MIB)
    found["descriptors"] = descriptors() - fds
    found["files"], on_disk = folder_bytes(os.environ["MACE_CACHE_DIR"])
    found["cache MiB"] = round(on_disk / MIB, 1)
    close()
    del run
    found["closed"] = round((process_bytes() - before) / MIB)
    return found


def _at_once(threads: int, run: Callable[[Any], Any], array: Any) -> None:
    barrier = threading.Barrier(threads)

    def work() -> None:
        barrier.wait()
        run(array)

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def trim() -> None:
    """Give what the C library holds back to the system, so that only what is in use counts."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError):
        return


# --- all of them ------------------------------------------------------------------------------------------------------

CASES: dict[str, tuple[Callable[[Path], None], tuple[int, ...], int]] = {
    "matmul": (matmul_model, (1, 4, 16, 64), 1),
    "conv": (conv_model, (1, 4, 16), 1),
    "arena": (large_arena_model, (1, 4, 16), 8),
}


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.shapes.memory", description=__doc__)
    parser.add_argument("--case", choices=sorted(CASES), help="only this one")
    parser.add_argument("--engine", choices=ENGINES, help="only this one")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.child:
        engine, model = chosen.child
        _, counts, threads = CASES[chosen.case]
        _say(json.dumps(measure(engine, chosen.case, Path(model), counts, threads)))
        return
    for kind, (build, counts, threads) in CASES.items():
        if chosen.case not in (None, kind):
            continue
        with tempfile.TemporaryDirectory() as folder:
            model = Path(folder) / f"{kind}.onnx"
            build(model)
            size = model.stat().st_size / MIB
            _say(f"{kind}: {size:.1f} MiB of weights, {max(counts)} shapes, {threads} threads at once")
            for engine in ENGINES:
                if chosen.engine not in (None, engine):
                    continue
                for start in ("first", "second"):
                    if start == "second" and engine != "mace":
                        continue
                    command = [sys.executable, "-m", "benchmarks.shapes.memory", "--case", kind, "--child", engine]
                    environment = {**os.environ, "MACE_CACHE_DIR": str(Path(folder) / "cache")}
                    done = subprocess.run(
                        [*command, str(model)], env=environment, check=True, stdout=subprocess.PIPE, text=True
                    )
                    _say(f"  {engine:12} {start:7} {done.stdout.strip().splitlines()[-1]}")


if __name__ == "__main__":
    main()
