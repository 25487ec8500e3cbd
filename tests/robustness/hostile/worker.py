"""The process that loads hostile files: told a path on standard input, it answers with one line of JSON each.

It survives many files; whoever asks it watches the time.  Memory is limited by the operating system where it can be.
"""

from __future__ import annotations

import gc
import json
import math
import os
import pickle
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

LIMIT_BYTES = 2 << 30
FEEDS = "feeds.pickle"
RESULTS = "results.pickle"

LARGEST_FEED = 1 << 22
"""Elements of an input at most; what asks for more is fed an array of the wrong shape, which it must refuse."""


OPEN_DIMS = {2: 48, 3: 192}
"""Sizes of open dimensions by axis: a picture that the models among the good ones take."""


def limit_memory() -> None:
    try:
        import resource
    except ImportError:  # not on this system: whoever asks reads the peak instead
        return
    resource.setrlimit(resource.RLIMIT_AS, (LIMIT_BYTES, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _peak_bytes() -> int:
    """The highest resident memory since the last `_reset_peak`; what is resident now where that is not known."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) << 10
    except OSError:
        pass
    import psutil

    return int(psutil.Process().memory_info().rss)


def _reset_peak() -> None:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def _feed(spec: Any) -> Any:
    """Ones for an input, open dimensions filled in; smaller than asked for where that is enormous."""
    from mace_core.tensor import DType

    shape = [dim if isinstance(dim, int) else OPEN_DIMS.get(axis, 1) for axis, dim in enumerate(spec.shape or ())]
    if math.prod(shape) > LARGEST_FEED:
        shape = [1] * len(shape)
    if spec.dtype is DType.STRING:
        return np.full(shape, "text", object)
    return np.ones(shape, spec.dtype.numpy)


def _feeds(session: Any) -> dict[str, Any]:
    feeds: dict[str, Any] = {}
    for spec in session.inputs:
        feeds[spec.name] = _feed(spec) if hasattr(spec, "dtype") and hasattr(spec, "shape") else None
    return feeds


def given_feeds(path: str) -> dict[str, Any] | None:
    """The feeds that lie beside the model, where it came with some."""
    file = Path(path).with_name(FEEDS)
    return None if not file.exists() else pickle.loads(file.read_bytes())


def keep_results(path: str, results: list[Any]) -> None:
    """Put the results beside a model that came with feeds: somebody else is going to be asked too."""
    if Path(path).with_name(FEEDS).exists():
        with Path(path).with_name(RESULTS).open("wb") as file:
            pickle.dump(results, file, protocol=5)  # as they lie in memory: a copy might be more than there is


def attempt(path: str) -> dict[str, Any]:
    """Load, plan, run once: how far it came and what was said."""
    import mace_core as mace
    from mace_core.errors import MaceError

    stage, error = "load", None
    try:
        with mace.Session(path, devices=["cpu"], options={"cpu": {"threads": 1}}, cache=False) as session:
            stage = "run"
            results = session.run(given_feeds(path) or _feeds(session))
            stage = "done"
            keep_results(path, list(results.values()))
    except BaseException as caught:
        error = caught
    if error is None:
        return {"outcome": "ran", "message": ""}
    if isinstance(error, MaceError):
        outcome = "refused when loaded" if stage == "load" else "refused when run"
        return {"outcome": outcome, "kind": type(error).__name__, "message": str(error)}
    import traceback

    trace = "".join(traceback.format_exception(error))[-3000:]
    return {"outcome": "escaped", "kind": type(error).__name__, "message": str(error), "trace": trace}


def main(answer: Callable[[str], dict[str, Any]] = attempt) -> None:
    """Answer until standard input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever prints goes to standard error, where it is noticed
    limit_memory()
    for line in sys.stdin:
        gc.collect()  # what the file before left in cycles is not this one's
        _reset_peak()
        start, cpu = time.perf_counter(), time.process_time()
        found = answer(json.loads(line))
        found["seconds"] = time.perf_counter() - start
        found["cpu_seconds"] = time.process_time() - cpu
        found["peak_bytes"] = _peak_bytes()
        answers.write(json.dumps(found) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
