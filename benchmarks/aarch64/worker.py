"""Runs one layer with one engine a number of times, on the emulated processor: ``python worker.py ENGINE LAYER RUNS``.

Every engine uses one thread.  Weights and inputs are the same; results are printed so that they can be compared.
"""

from __future__ import annotations

import functools
import hashlib
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.aarch64.layers import LAYERS, Layer

Array = npt.NDArray[np.generic]


def of_mace(layer: Layer, precision: str = "float32") -> Callable[[], Array]:
    from mace_core import Session

    model = layer.onnx()
    # the same file each time, so that the second process finds what the first one has compiled
    path = Path(tempfile.gettempdir()) / f"mace-layer-{hashlib.sha256(model).hexdigest()[:16]}.onnx"
    if not path.exists():
        path.write_bytes(model)
    session = Session(str(path), devices=["cpu"], options={"cpu": {"threads": 1, "precision": precision}}, strict=True)
    feeds = {"x": layer.input()}
    return lambda: np.asarray(session.run(feeds)["y"])


def of_onnxruntime(layer: Layer) -> Callable[[], Array]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(layer.onnx(), options, providers=["CPUExecutionProvider"])
    feeds = {"x": layer.input()}
    return lambda: np.asarray(session.run(None, feeds)[0])


def of_ncnn(layer: Layer, *, in_float16: bool = False) -> Callable[[], Array]:
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads = 1
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = in_float16
    folder = Path(tempfile.mkdtemp())
    text, weights = layer.ncnn()
    (folder / "layer.param").write_text(text)
    (folder / "layer.bin").write_bytes(weights)
    net.load_param(str(folder / "layer.param"))
    net.load_model(str(folder / "layer.bin"))
    given = layer.input()
    x = ncnn.Mat(given[0] if given.ndim == 4 else given).clone()  # else it stays in the memory of an array that is gone

    def run() -> Array:
        extractor = net.create_extractor()
        extractor.input("x", x)
        return np.array(extractor.extract("y")[1])[None]

    return run


ENGINES: dict[str, Callable[[Layer], Callable[[], Array]]] = {
    "mace": of_mace,
    "mace-float16": functools.partial(of_mace, precision="float16"),
    "onnxruntime": of_onnxruntime,
    "ncnn": of_ncnn,
    "ncnn-float16": functools.partial(of_ncnn, in_float16=True),
}


def main() -> None:
    engine, name, runs = sys.argv[1], sys.argv[2], int(sys.argv[3])
    run = ENGINES[engine](LAYERS[name])
    for _ in range(runs):
        result = run()
    numbers = result.astype(np.float64)
    sys.stdout.write(f"result {result.shape} {numbers.sum():.8g} {np.abs(numbers).sum():.8g}\n")


if __name__ == "__main__":
    main()
