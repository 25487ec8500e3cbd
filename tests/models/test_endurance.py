"""Many runs and many threads over one session."""

from __future__ import annotations

import gc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psutil

import mace_core as mace
from mace_core.testing.models import PP_OCR_REC, find_packaged_model

RUNS = 1000
WIDTH = 64
GROWTH_BYTES = 8 << 20
THREADS = 8


def recogniser() -> str:
    return str(find_packaged_model(*PP_OCR_REC))


def test_1000_runs_leave_memory_flat(picture) -> None:
    feeds = {"x": picture(48, WIDTH)}
    process = psutil.Process()
    with mace.Session(recogniser(), devices=["cpu"], strict=True) as session:
        for _ in range(50):
            session.run(feeds)
        gc.collect()
        before = process.memory_info().rss
        for _ in range(RUNS):
            session.run(feeds)
        gc.collect()
        grown = process.memory_info().rss - before
    assert grown < GROWTH_BYTES, f"memory grew by {grown} bytes over {RUNS} runs"


def test_8_threads_give_the_results_of_one(picture) -> None:
    feeds = [{"x": picture(48, 96 if i % 2 else 160, seed=i)} for i in range(THREADS)]
    with mace.Session(recogniser(), devices=["cpu"], strict=True) as session:
        alone = [session.run(each) for each in feeds]
        with ThreadPoolExecutor(THREADS) as threads:
            together = list(threads.map(lambda i: [session.run(feeds[i]) for _ in range(4)], range(THREADS)))
    for expected, runs in zip(alone, together, strict=True):
        for found in runs:
            for name, array in expected.items():
                np.testing.assert_array_equal(found[name], array)
