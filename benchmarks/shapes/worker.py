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
from typing import Any

import numpy as np

from benchmarks.shapes.cases import CASES, Array, Feeds, Run

REPEATS = 5
"""Runs of a shape that was run just before; the fastest counts."""


def open_mace(model: Path, threads: int) -> Run:
    import mace_core

    session = mace_core.Session(model, devices=["cpu"], options={"cpu": {"threads": threads}}, strict=True)
    return session.run


def onnxruntime_session(model: Path, threads: int) -> Any:
    """onnxruntime's session on the processor, without words."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def open_onnxruntime(model: Path, threads: int) -> Run:
    session = onnxruntime_session(model, threads)
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


class Passing:
    """A stream of runs whose state goes through the caller, as an engine without states has it."""

    def __init__(self, run: Run, pairs: Mapping[str, str]) -> None:
        self._run, self._pairs = run, pairs
        self._before: Feeds = {}
        self._state: Feeds = {}

    def step(self, feeds: Feeds) -> Mapping[str, Array]:
        found = self._run({**self._state, **feeds})
        self._before = self._state
        self._state = {source: found[output] for source, output in self._pairs.items()}
        return {name: array for name, array in found.items() if name not in self._pairs.values()}

    def back(self) -> None:
        """Let the latest step not have been."""
        self._state = self._before


class Bound:
    """The same with `Session.bind`."""

    def __init__(self, model: Path, threads: int, pairs: Mapping[str, str], start: Feeds) -> None:
        import mace_core

        session = mace_core.Session(model, devices=["cpu"], options={"cpu": {"threads": threads}}, strict=True)
        self._binding = session.bind(pairs, {name: start[name] for name in pairs})

    def step(self, feeds: Feeds) -> Mapping[str, Array]:
        return self._binding.run({name: array for name, array in feeds.items() if not name.startswith("past")})

    def back(self) -> None:
        """Let the latest step not have been."""
        self._binding.rewind(1)


class IoBinding:
    """The same with onnxruntime's IOBinding: it allocates the outputs, which are inputs without a copy."""

    def __init__(self, model: Path, threads: int, pairs: Mapping[str, str], start: Feeds) -> None:
        import onnxruntime

        self._session = onnxruntime_session(model, threads)
        self._outputs = [output.name for output in self._session.get_outputs()]
        self._pairs = pairs
        self._state = {name: onnxruntime.OrtValue.ortvalue_from_numpy(start[name]) for name in pairs}
        self._before = self._state

    def step(self, feeds: Feeds) -> Mapping[str, Array]:
        binding = self._session.io_binding()
        for name, array in feeds.items():
            if name not in self._pairs:
                binding.bind_cpu_input(name, array)
        for name, value in self._state.items():
            binding.bind_ortvalue_input(name, value)
        for name in self._outputs:
            binding.bind_output(name)
        self._session.run_with_iobinding(binding)
        found = dict(zip(self._outputs, binding.get_outputs(), strict=True))
        self._before, self._state = self._state, {name: found[output] for name, output in self._pairs.items()}
        return {name: value.numpy() for name, value in found.items() if name not in self._pairs.values()}

    def back(self) -> None:
        """Let the latest step not have been."""
        self._state = self._before


ENGINES: dict[str, Callable[[Path, int], Run]] = {
    "mace": open_mace,
    "onnxruntime": open_onnxruntime,
    "openvino": open_openvino,
}


def main() -> None:
    case_name, engine, threads, folder, results = sys.argv[1:]
    case = CASES[case_name]
    model = case.model(Path(folder))
    back: Callable[[], None] = lambda: None  # noqa: E731
    warm = list(case.warm())
    if not case.pairs:
        run = ENGINES[engine](model, int(threads))
    else:
        stream: Passing | Bound | IoBinding
        if engine == "mace":
            stream = Bound(model, int(threads), case.pairs, warm[0])
        elif engine == "onnxruntime-io":
            stream = IoBinding(model, int(threads), case.pairs, warm[0])
        else:
            stream = Passing(ENGINES[engine](model, int(threads)), case.pairs)
        run, back = stream.step, stream.back
    for feeds in warm:
        run(feeds)
    new, kept = [], []
    outputs: Mapping[str, Array] = {}
    for feeds in case.new():
        start = time.perf_counter()
        outputs = run(feeds)
        new.append((time.perf_counter() - start) * 1e3)
        again = []
        for _ in range(REPEATS):
            back()
            start = time.perf_counter()
            run(feeds)
            again.append((time.perf_counter() - start) * 1e3)
        kept.append(min(again))
    np.savez(results, *(np.asarray(value) for value in outputs.values()))  # both engines give the model's order
    found = {"new_ms": statistics.median(new), "worst_ms": max(new), "kept_ms": statistics.median(kept)}
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
