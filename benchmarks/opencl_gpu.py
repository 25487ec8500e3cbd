"""MobileNetV2 on an OpenCL device: agreement, time per inference and per kernel launch.

Two steps, so that the machine with the GPU needs neither onnxruntime nor a network:

    python benchmarks/opencl_gpu.py --prepare expected.npz      # where onnxruntime is: model, input, expected output
    python benchmarks/opencl_gpu.py --check expected.npz        # where the GPU is
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from rich.console import Console

CONSOLE = Console(highlight=False, markup=False, soft_wrap=True)

TOLERANCE = 1e-4
"""Largest difference, relative to the largest magnitude of the expected output."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--prepare", type=Path, metavar="FILE", help="write the model, an input and what it gives")
    action.add_argument("--check", type=Path, metavar="FILE", help="run that on a device and compare")
    parser.add_argument(
        "--device", help="for example opencl:0 (default: the first OpenCL device that is not a stand-in)"
    )
    parser.add_argument("--runs", type=int, default=200, help="timed runs")
    given = parser.parse_args()
    return prepare(given.prepare) if given.prepare else check(given.check, given.device, given.runs)


def prepare(path: Path) -> int:
    """Write model, input and onnxruntime's output into one file."""
    import onnxruntime

    from mace_core.testing.models import mobilenet_v2, sample_image

    model = mobilenet_v2().SerializeToString()
    x = sample_image((1, 3, 224, 224))
    peer = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    (expected,) = peer.run(None, {"x": x})
    np.savez_compressed(path, model=np.frombuffer(model, np.uint8), x=x, expected=expected)
    CONSOLE.print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
    return 0


def check(path: Path, device: str | None, runs: int) -> int:
    """Run the prepared model; 0 if it agrees."""
    from mace_core.provider import default_registry
    from mace_core.scheduler.profile import Profile
    from mace_core.session import Session

    found = default_registry().provider("opencl").probe()
    for one in found.devices:
        stand_in = " (stand-in)" if one.is_virtual else ""
        CONSOLE.print(
            f"{one.qualified_name}: {one.name}{stand_in}, {one.memory_bytes / 1e9:.1f} GB, {dict(one.properties)}"
        )
    for item in found.missing:
        CONSOLE.print(f"missing: {item.what}: {item.reason} ({item.hint})")
    chosen = device or next((one.qualified_name for one in found.devices if not one.is_virtual), None)
    if chosen is None:
        CONSOLE.print("there is no OpenCL device that is not a stand-in; name one with --device")
        return 1
    prepared = np.load(path)
    x, expected = prepared["x"], prepared["expected"]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "mobilenet_v2.onnx"
        file.write_bytes(prepared["model"].tobytes())
        for start in ("first start", "second start"):
            began = time.perf_counter()
            session = Session(file, devices=[chosen], strict=True)
            y = session.run({"x": x})["y"]
            CONSOLE.print(f"{start}: {time.perf_counter() - began:.2f} s to the first result")
            if start == "first start":
                session.close()
        error = float(np.abs(y - expected).max() / np.abs(expected).max())
        CONSOLE.print(f"{chosen}: largest difference {error:.2e} of the largest output (allowed {TOLERANCE:.0e})")
        for _ in range(20):
            session.run({"x": x})
        times = []
        for _ in range(runs):
            began = time.perf_counter()
            session.run({"x": x})
            times.append(time.perf_counter() - began)
        profile = Profile()
        session.run({"x": x}, profile=profile)
        report(session, times, profile, chosen)
        enqueue_times(session, x)
        session.close()
    return 0 if error <= TOLERANCE else 1


def report(session: object, times: list[float], profile: object, device: str) -> None:
    """Print what a run takes and which kernels take it."""
    spans = [span for span in profile.spans if span.device == device]  # type: ignore[attr-defined]
    busy = sum(span.duration_ns for span in spans) / 1e6
    middle = statistics.median(times) * 1e3
    CONSOLE.print(
        f"inference: median {middle:.3f} ms, best {min(times) * 1e3:.3f} ms, transfers included ({len(times)} runs); "
        f"{len(spans)} launches, {busy:.3f} ms of them on the device, {middle / len(spans) * 1e3:.1f} µs a launch"
    )
    for span in sorted(spans, key=lambda span: -span.duration_ns)[:10]:
        CONSOLE.print(f"  {span.duration_ns / 1e3:8.1f} µs  {span.name}")


def enqueue_times(session: object, x: np.ndarray) -> None:
    """Time of the native call that queues all launches, against the same from Python."""
    import mace_opencl.execution as execution
    from mace_opencl import launch

    original = execution.ClExecution.enqueue
    walks = {"native": launch.walker()[0], "python": launch.walk_in_python}
    for label, walk in walks.items():
        spent: list[float] = []
        counts: list[int] = []

        def timed(words: np.ndarray, walk: launch.Walk = walk, spent: list[float] = spent) -> None:
            began = time.perf_counter()
            walk(words)
            spent.append(time.perf_counter() - began)

        def enqueue(self: execution.ClExecution, *arguments: object, timed: launch.Walk = timed) -> object:
            self._walk = timed
            counts.append(len(self._launches))  # noqa: B023 - called within the same turn
            return original(self, *arguments)  # type: ignore[arg-type]

        execution.ClExecution.enqueue = enqueue  # type: ignore[method-assign, assignment]
        try:
            for _ in range(50):
                session.run({"x": x})  # type: ignore[attr-defined]
        finally:
            execution.ClExecution.enqueue = original  # type: ignore[method-assign]
        CONSOLE.print(f"queueing from a {label} loop: {statistics.median(spent) / counts[0] * 1e6:.2f} µs a launch")


if __name__ == "__main__":
    sys.exit(main())
