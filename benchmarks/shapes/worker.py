"""The process of one measurement: opens a model on one engine, feeds it shapes, writes one line of JSON.

python -m benchmarks.shapes.worker CASE ENGINE THREADS FOLDER RESULTS.npz
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from benchmarks.shapes.cases import CASES, Array, Feeds, Run

REPEATS = 5
"""Runs of a shape that was run just before; the fastest counts."""


def open_mace(model: Path, threads: int) -> Run:
    import mace_core

    session = mace_core.Session(model, devices=["cpu"], options={"cpu": {"threads": threads}}, strict=True)
    return session.run


def open_onnxruntime(model: Path, threads: int) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda feeds: dict(zip(names, session.run(names, feeds), strict=True))


def open_openvino(model: Path, threads: int) -> Run:
    import openvino

    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
    request = openvino.Core().compile_model(str(model), "CPU", options).create_infer_request()

    def run(feeds: Feeds) -> dict[str, np.ndarray]:
        request.infer(dict(feeds), share_inputs=True)
        found = zip(request.model_outputs, request.output_tensors, strict=True)
        return {output.get_any_name(): np.array(tensor.data) for output, tensor in found}

    return run


ENGINES: dict[str, Callable[[Path, int], Run]] = {
    "mace": open_mace,
    "onnxruntime": open_onnxruntime,
    "openvino": open_openvino,
}


def main() -> None:
    case_name, engine, threads, folder, results = sys.argv[1:]
    case = CASES[case_name]
    model = case.model(Path(folder))
    run = ENGINES[engine](model, int(threads))
    for feeds in case.warm():
        run(feeds)
    new, kept = [], []
    outputs: Mapping[str, Array] = {}
    for feeds in case.new():
        start = time.perf_counter()
        outputs = run(feeds)
        new.append((time.perf_counter() - start) * 1e3)
        again = []
        for _ in range(REPEATS):
            start = time.perf_counter()
            run(feeds)
            again.append((time.perf_counter() - start) * 1e3)
        kept.append(min(again))
    np.savez(results, *(np.asarray(value) for value in outputs.values()))  # both engines give the model's order
    found = {"new_ms": statistics.median(new), "worst_ms": max(new), "kept_ms": statistics.median(kept)}
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
