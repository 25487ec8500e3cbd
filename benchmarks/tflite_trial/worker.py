"""Compares models with LiteRT in a process of its own: names of files come in, a line of JSON for each goes out."""

from __future__ import annotations

import contextlib
import json
import re
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.tflite_agreement import from_exact
from mace_core import Session
from mace_core.errors import MaceError

Array = npt.NDArray[Any]
Feeds = dict[str, Array]

EXACT_FROM = 1e-5
"""Floats that differ by a greater share of the range are compared with the model in double precision."""

TIMED_S, LEAST_ROUNDS, IN_TURN = 0.25, 4, 3
"""How long each engine is timed, in turns of a few runs."""


def feeds_of(file: Path) -> tuple[str, list[Feeds]]:
    """The signature that a model is tried by, and the inputs of its runs."""
    with np.load(file.with_suffix(".npz"), allow_pickle=True) as content:
        signature = str(content["signature"]) if "signature" in content else "serving_default"
        runs: dict[int, Feeds] = {}
        for key in content.files:
            if key != "signature":
                number, name = key.split("/", 1)
                runs.setdefault(int(number), {})[name] = content[key]
    return signature, [runs[number] for number in sorted(runs)] or [{}]


class Judge:
    """LiteRT's interpreter by a signature: its fast kernels, or the plain ones."""

    def __init__(self, file: Path, signature: str, *, plain: bool = False) -> None:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        kind = OpResolverType.BUILTIN_REF if plain else OpResolverType.AUTO
        self.interpreter = Interpreter(model_path=str(file), num_threads=1, experimental_op_resolver_type=kind)
        self.runner = self.interpreter.get_signature_runner(signature)
        self.details = self.runner.get_input_details()

    def quantized(self, feeds: Feeds) -> Feeds:
        """Inputs as the model takes them: floats in its steps where it takes whole numbers."""
        found = {}
        for name, value in feeds.items():
            if name not in self.details:  # the converter leaves out what nothing reads
                continue
            dtype, (scale, zero) = np.dtype(self.details[name]["dtype"]), self.details[name]["quantization"]
            if value.dtype.kind == "f" and dtype.kind in "iu":
                limits = np.iinfo(dtype)
                value = np.clip(np.round(value / (scale or 1)) + zero, limits.min, limits.max)
            found[name] = value if dtype.kind in "OSU" else np.asarray(value, dtype, order="C")
        return found

    def run(self, feeds: Feeds) -> Feeds:
        """The outputs by name."""
        return {name: np.array(value) for name, value in self.runner(**feeds).items()}


def difference(found: list[Feeds], expected: list[Feeds]) -> dict[str, Any]:
    """The worst share of an output's range, the most steps, and what is wrong in a word."""
    result: dict[str, Any] = {}
    for name, first in expected[0].items():
        if name not in found[0]:
            return {"wrong": f"no output '{name}' (there are {', '.join(found[0])})"}
        ours, theirs = [run[name] for run in found], [run[name] for run in expected]
        if first.dtype.kind == "c":  # which are pairs here
            theirs = [np.stack([value.real, value.imag], -1) for value in theirs]
            first = theirs[0]
        for a, b in zip(ours, theirs, strict=True):
            if a.shape != b.shape:
                return {"wrong": f"{name}: shape {a.shape}, LiteRT's {b.shape}"}
            if a.dtype != b.dtype and b.dtype.kind not in "OSU":
                return {"wrong": f"{name}: {a.dtype}, LiteRT's {b.dtype}"}
        if first.dtype.kind in "OSU":
            if any([_text(x) for x in a.flat] != [_text(x) for x in b.flat] for a, b in zip(ours, theirs, strict=True)):
                return {"wrong": f"{name}: other text"}
            continue
        if first.dtype.kind == "f":
            all_theirs = np.concatenate([value.reshape(-1) for value in theirs])
            all_ours = np.concatenate([value.reshape(-1) for value in ours])
            finite = np.isfinite(all_theirs)
            same = np.array_equal(all_ours[~finite], all_theirs[~finite], equal_nan=True)
            if not same or not np.isfinite(all_ours[finite]).all():
                return {"wrong": f"{name}: other numbers are not finite"}
            if finite.any():
                values = all_theirs[finite]
                span = max(float(np.abs(values).max()), float(np.ptp(values)), 1e-30)
                worst = float(np.abs(all_ours[finite] - values).max()) / span
                result["relative"] = max(result.get("relative", 0.0), worst)
        elif first.dtype.kind == "b" or first.dtype.itemsize >= 4:
            if any(not np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True)):
                return {"wrong": f"{name}: other numbers"}
        else:
            for a, b in zip(ours, theirs, strict=True):
                if a.size:
                    steps = int(np.abs(a.astype(np.int64) - b.astype(np.int64)).max())
                    result["steps"] = max(result.get("steps", 0), steps)
    return result


def _text(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def compare(file: Path, *, timed: bool, alone: bool = False) -> dict[str, Any]:
    """Everything about one model."""
    result: dict[str, Any] = {}
    signature, runs = feeds_of(file)
    judge: Judge | None = None
    expected: list[Feeds] = []
    given = runs
    for plain in (False, True):  # the plain kernels know forms that the fast ones refuse
        try:
            judge = Judge(file, signature, plain=plain)  # also with --alone: inputs are quantized by what it says
            runs = [judge.quantized(run) for run in given]
            expected = [] if alone else [judge.run(run) for run in runs]
        except (RuntimeError, ValueError) as error:
            result.setdefault("litert", str(error).strip().splitlines()[0])
        else:
            result.pop("litert", None)
            break
    try:
        with Session(file, devices=["cpu"], options={"cpu": {"threads": 1}}, signature=signature) as session:
            found = [session.run(run) for run in runs]
            explanation = session.explain()
            result["nodes"] = sum(explanation.nodes_per_device.values())
            result["transposes"] = sum(entry.op == "Transpose" for entry in explanation.nodes)
            result["off_cpu"] = sum(
                n for device, n in explanation.nodes_per_device.items() if device not in ("cpu:0", "core")
            )
            if timed and judge is not None and expected:
                result |= _times(session, judge, runs[0])
    except MaceError as error:
        result["mace"] = f"{type(error).__name__}: {error}"
        return result
    except Exception as error:  # a fault that the table shows
        result["mace"] = f"CRASH {type(error).__name__}: {error}"
        return result
    if not expected:
        return result
    result |= difference(found, expected)
    if result.get("relative", 0) > EXACT_FROM and file.name.endswith(("float32.tflite", "float16.tflite")):
        ours, theirs = ([list(run.values()) for run in each[:1]] for each in (found, expected))
        result["exact"] = from_exact(file, [list(run.values()) for run in runs[:1]], ours, theirs)
    # The plain kernels lack some operators: then the column is empty.
    with contextlib.suppress(RuntimeError, ValueError):
        plain = Judge(file, signature, plain=True)
        result["own"] = difference([plain.run(run) for run in runs], expected)
    return result


def _times(session: Session, judge: Judge, feeds: Feeds) -> dict[str, Any]:
    """The best of many runs, in turns; what takes MACE longest where it is slower."""
    best = {"mace_us": float("inf"), "litert_us": float("inf")}
    end = time.monotonic() + 2 * TIMED_S
    calls = {"mace_us": lambda: session.run(feeds), "litert_us": lambda: judge.runner(**feeds)}
    for call in calls.values():
        call()
    rounds = 0
    while time.monotonic() < end or rounds < LEAST_ROUNDS:
        rounds += 1
        for name, call in calls.items():
            for _ in range(IN_TURN):
                began = time.perf_counter()
                call()
                best[name] = min(best[name], (time.perf_counter() - began) * 1e6)
    found: dict[str, Any] = dict(best)
    if best["mace_us"] > 1.3 * best["litert_us"] and best["mace_us"] > 300:
        by_type: dict[str, float] = {}
        for span in session.profile(feeds).spans:
            kind = re.sub(r"_\d+$", "", span.name.split("/")[-1])
            by_type[kind] = by_type.get(kind, 0.0) + (span.end_ns - span.start_ns) / 1e3
        top = sorted(by_type.items(), key=lambda item: -item[1])[:3]
        found["top"] = ", ".join(f"{kind} {us:.0f}" for kind, us in top)
    return found


def main() -> None:
    """See the module."""
    timed, alone = "--timed" in sys.argv, "--alone" in sys.argv
    for line in sys.stdin:
        sys.stdout.write(json.dumps(compare(Path(line.strip()), timed=timed, alone=alone)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
