"""Kernels to test with, and a cache folder of the tests' own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from mace_core.native.kernel import load_kernels
from mace_core.native.numba_kernel import numba_source
from mace_core.native.source import KernelSource


@pytest.fixture(scope="module", autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("cache")
    before = os.environ.get("MACE_CACHE_DIR")
    os.environ["MACE_CACHE_DIR"] = str(folder)
    yield folder
    if before is None:
        del os.environ["MACE_CACHE_DIR"]
    else:
        os.environ["MACE_CACHE_DIR"] = before


@pytest.fixture
def sample_modules(monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of an importable module of kernels written in Python."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    return "sample_kernels"


# for i in [begin, end): counts[args[1] + i] += 1
COUNT = KernelSource(
    "test_count",
    "1",
    lambda target: (
        """
define void @test_count(ptr %args, i64 %begin, i64 %end, i64 %chunk) {
entry:
  %counts = load ptr, ptr %args
  %offset.at = getelementptr i64, ptr %args, i64 1
  %offset = load i64, ptr %offset.at
  %any = icmp slt i64 %begin, %end
  br i1 %any, label %loop, label %out
loop:
  %i = phi i64 [ %begin, %entry ], [ %next, %loop ]
  %at = add i64 %offset, %i
  %p = getelementptr i64, ptr %counts, i64 %at
  %old = load i64, ptr %p
  %new = add i64 %old, 1
  store i64 %new, ptr %p
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, %end
  br i1 %more, label %loop, label %out
out:
  ret void
}
"""
    ),
)

# sleeps args[0] microseconds for each unit, then marks[chunk] = 1
SLEEP = KernelSource(
    "test_sleep",
    "1",
    lambda target: (
        """
declare i32 @usleep(i32)
define void @test_sleep(ptr %args, i64 %begin, i64 %end, i64 %chunk) {
  %time = load i64, ptr %args
  %units = sub i64 %end, %begin
  %total = mul i64 %time, %units
  %total32 = trunc i64 %total to i32
  %status = call i32 @usleep(i32 %total32)
  %marks.at = getelementptr i64, ptr %args, i64 1
  %marks = load ptr, ptr %marks.at
  %mark = getelementptr i64, ptr %marks, i64 %chunk
  %old = load i64, ptr %mark
  %new = add i64 %old, 1
  store i64 %new, ptr %mark
  ret void
}
"""
    ),
    frozenset(("usleep",)),
)

# a[i] = a[i] * 3 + chunk-independent i, then b[i] = a[n - 1 - i]: the second step needs all of the first
TRIPLE = KernelSource(
    "test_triple",
    "1",
    lambda target: (
        """
define void @test_triple(ptr %args, i64 %begin, i64 %end, i64 %chunk) {
entry:
  %a = load ptr, ptr %args
  %b.at = getelementptr i64, ptr %args, i64 1
  %b = load ptr, ptr %b.at
  %n.at = getelementptr i64, ptr %args, i64 2
  %n = load i64, ptr %n.at
  %any = icmp slt i64 %begin, %end
  br i1 %any, label %loop, label %out
loop:
  %i = phi i64 [ %begin, %entry ], [ %next, %loop ]
  %last = sub i64 %n, 1
  %mirror = sub i64 %last, %i
  %p = getelementptr i64, ptr %a, i64 %mirror
  %old = load i64, ptr %p
  %scaled = mul i64 %old, 3
  %new = add i64 %scaled, %i
  %q = getelementptr i64, ptr %b, i64 %i
  store i64 %new, ptr %q
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, %end
  br i1 %more, label %loop, label %out
out:
  ret void
}
"""
    ),
)


@pytest.fixture(scope="session")
def count_kernel() -> int:
    return load_kernels([COUNT])[COUNT.symbol]


@pytest.fixture(scope="session")
def sleep_kernel() -> int:
    return load_kernels([SLEEP])[SLEEP.symbol]


@pytest.fixture
def polling_kernel(sample_modules: str) -> int:
    """Never ends but by being stopped."""
    source = numba_source(sample_modules, "until_stopped")
    return load_kernels([source])[source.symbol]


@pytest.fixture(scope="session")
def triple_kernel() -> int:
    return load_kernels([TRIPLE])[TRIPLE.symbol]
