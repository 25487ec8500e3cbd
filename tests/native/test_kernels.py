"""Kernels: from LLVM IR or Python to a callable address, through the cache."""

from __future__ import annotations

import ctypes
import functools
import logging
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest

from mace_core.errors import UsageError
from mace_core.native import builder
from mace_core.native import kernel as kernel_module
from mace_core.native.compiler import compile_object
from mace_core.native.elf import read_symbols
from mace_core.native.errors import KernelError
from mace_core.native.kernel import load_kernels, object_cache
from mace_core.native.numba_kernel import kernel_version, numba_source
from mace_core.native.source import KernelSource
from mace_core.native.target import Target, host_target


def call(address: int, args: list[int], begin: int, end: int, chunk: int = 0) -> None:
    words = np.array(args, np.int64)
    kernel = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)(address)
    kernel(words.ctypes.data, begin, end, chunk)


def load(source: KernelSource) -> int:
    return load_kernels([source])[source.symbol]


def store_source(symbol: str, value: int, built: list[str] | None = None) -> KernelSource:
    """A kernel that stores ``value`` at its first argument."""

    def build(target: Target) -> str:
        if built is not None:
            built.append(symbol)
        return f"""
define void @{symbol}(ptr %args, i64 %begin, i64 %end, i64 %chunk) {{
  %p = load ptr, ptr %args
  store i64 {value}, ptr %p
  ret void
}}
"""

    return KernelSource(symbol, str(value), build)


@pytest.fixture
def forget(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], None]:
    """An empty cache of one's own; calling the fixture makes the process forget what it has loaded."""
    monkeypatch.setenv("MACE_CACHE_DIR", str(tmp_path))

    def forget_now() -> None:
        monkeypatch.setattr(kernel_module, "_loaded", {})

    forget_now()
    return forget_now


class TestLoading:
    def test_a_kernel_of_llvm_ir(self) -> None:
        cell = np.zeros(1, np.int64)
        call(load(store_source("store_42", 42)), [cell.ctypes.data], 0, 1)
        assert cell[0] == 42

    def test_a_kernel_is_built_once_in_a_process(self) -> None:
        built: list[str] = []
        sources = [store_source("store_once", 1, built)] * 3
        first = load_kernels(sources)
        assert load_kernels(sources[:1]) == first
        assert built == ["store_once"]

    def test_a_kernel_in_the_cache_is_not_built(self, forget: Callable[[], None]) -> None:
        built: list[str] = []
        load(store_source("store_cached", 5, built))
        forget()
        cell = np.zeros(1, np.int64)
        call(load(store_source("store_cached", 5, built)), [cell.ctypes.data], 0, 1)
        assert (cell[0], built) == (5, ["store_cached"])

    def test_another_version_is_another_kernel(self, forget: Callable[[], None]) -> None:
        cell = np.zeros(1, np.int64)
        for value in (1, 2):
            call(load(store_source("store_version", value)), [cell.ctypes.data], 0, 1)
            assert cell[0] == value

    def test_another_target_is_another_kernel(self, forget: Callable[[], None]) -> None:
        built: list[str] = []
        source = store_source("store_target", 1, built)
        load_kernels([source], host_target("native"))
        load_kernels([source], host_target("baseline"))
        assert len(built) == 2

    def test_progress_counts_what_is_built(self, forget: Callable[[], None]) -> None:
        seen: list[tuple[int, int]] = []
        sources = [store_source(f"store_progress_{i}", i) for i in range(3)]
        load_kernels(sources, progress=lambda done, total: seen.append((done, total)))
        assert seen[-1] == (3, 3)
        assert {total for _, total in seen} == {3}
        seen.clear()
        forget()
        load_kernels(sources, progress=lambda done, total: seen.append((done, total)))
        assert seen == []


class TestDamage:
    @pytest.mark.parametrize("damage", ["truncate", "flip", "version", "empty", "garbage"])
    def test_a_damaged_object_is_built_again(
        self, forget: Callable[[], None], damage: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        built: list[str] = []
        load(store_source("store_damage", 7, built))
        (path,) = object_cache().directory.iterdir()
        good = path.read_bytes()
        middle = len(good) // 2
        path.write_bytes(
            {
                "truncate": good[:middle],
                "flip": good[:middle] + bytes([good[middle] ^ 4]) + good[middle + 1 :],
                "version": good,
                "empty": b"",
                "garbage": os.urandom(len(good)),
            }[damage]
        )
        if damage == "version":
            monkeypatch.setattr(kernel_module, "_generator", lambda: "another")
        forget()
        cell = np.zeros(1, np.int64)
        with caplog.at_level(logging.INFO, "mace.cache"):
            call(load(store_source("store_damage", 7, built)), [cell.ctypes.data], 0, 1)
        assert cell[0] == 7
        assert len(built) == 2
        assert "is not used" in caplog.text
        (again,) = object_cache().directory.iterdir()
        assert (again.read_bytes() == good) is (damage != "version")

    def test_an_object_with_a_good_checksum_but_a_foreign_import_is_refused(self, forget: Callable[[], None]) -> None:
        evil = KernelSource("calls_system", "1", lambda target: CALLS_SYSTEM, frozenset(("system",)))
        load(evil)
        forget()
        with pytest.raises(KernelError, match="'calls_system' refers to 'system'"):
            load(KernelSource("calls_system", "1", lambda target: CALLS_SYSTEM))


CALLS_SYSTEM = """
declare i32 @system(ptr)
define void @calls_system(ptr %args, i64 %begin, i64 %end, i64 %chunk) {
  %status = call i32 @system(ptr %args)
  ret void
}
"""


class TestRefusal:
    def test_a_forbidden_symbol_is_named(self) -> None:
        with pytest.raises(KernelError, match="kernel 'calls_system' refers to 'system', which kernels may not call"):
            load(KernelSource("calls_system", "forbidden", lambda target: CALLS_SYSTEM))

    def test_a_symbol_that_nobody_has_is_an_error_and_no_crash(self) -> None:
        ir = CALLS_SYSTEM.replace("@system", "@no_such_thing_anywhere")
        source = KernelSource("calls_system", "nobody", lambda target: ir, frozenset(("no_such_thing_anywhere",)))
        with pytest.raises(KernelError, match="no_such_thing_anywhere"):
            load(source)

    def test_invalid_ir_is_named(self) -> None:
        with pytest.raises(KernelError, match="'broken' is not valid"):
            load(KernelSource("broken", "1", lambda target: "define nonsense"))

    def test_ir_without_the_kernel(self) -> None:
        with pytest.raises(KernelError, match="'absent' does not define"):
            load(KernelSource("absent", "1", lambda target: "define void @other() {\n ret void\n}\n"))

    def test_a_failed_kernel_does_not_spoil_the_next(self) -> None:
        with pytest.raises(KernelError):
            load(KernelSource("broken", "2", lambda target: "define nonsense"))
        cell = np.zeros(1, np.int64)
        call(load(store_source("store_after", 9)), [cell.ctypes.data], 0, 1)
        assert cell[0] == 9

    def test_only_the_kernel_is_visible_from_outside(self) -> None:
        ir = """
@table = global [4 x i64] [i64 1, i64 2, i64 3, i64 4]
define i64 @helper(i64 %i) noinline {
  %p = getelementptr i64, ptr @table, i64 %i
  %v = load i64, ptr %p
  ret i64 %v
}
define void @visible(ptr %args, i64 %begin, i64 %end, i64 %chunk) {
  %v = call i64 @helper(i64 %begin)
  %p = load ptr, ptr %args
  store i64 %v, ptr %p
  ret void
}
"""
        source = KernelSource("visible", "1", lambda target: ir)
        cell = np.zeros(1, np.int64)
        call(load(source), [cell.ctypes.data], 2, 3)
        assert cell[0] == 3
        (image,) = (object_cache().get(key) for key in object_cache().entries() if key.startswith("visible|"))
        assert image is not None
        assert read_symbols(image).defined == {"visible"}


HALF = """
define void @half(ptr %args, i64 %begin, i64 %end, i64 %chunk) {
  %in = load ptr, ptr %args
  %out.at = getelementptr i64, ptr %args, i64 1
  %out = load ptr, ptr %out.at
  %h = load half, ptr %in
  %f = fpext half %h to float
  %g = fmul float %f, 3.0
  %r = fptrunc float %g to half
  store half %r, ptr %out
  ret void
}
"""


@pytest.mark.parametrize("mask", ["baseline", "native"])
def test_half_precision_works_with_every_mask(mask: str) -> None:
    address = load_kernels([KernelSource("half", "1", lambda target: HALF)], host_target(mask))["half"]
    x, y = np.array([1.1], np.float16), np.zeros(1, np.float16)
    call(address, [x.ctypes.data, y.ctypes.data], 0, 1)
    assert y[0] == np.float16(np.float32(x[0]) * 3)


class TestElf:
    def test_any_truncation_is_an_error_or_the_same_symbols(self) -> None:
        load(store_source("store_elf", 1))
        (image,) = (object_cache().get(key) for key in object_cache().entries() if key.startswith("store_elf|"))
        assert image is not None
        whole = read_symbols(image)
        assert whole.defined == {"store_elf"}
        for length in range(0, len(image), 7):
            with pytest.raises(ValueError, match="ELF"):
                read_symbols(image[:length])


@pytest.mark.usefixtures("sample_modules")
class TestNumba:
    def test_saxpy(self) -> None:
        x, y = np.arange(1000, dtype=np.float32), np.ones(1000, np.float32)
        factor = int(np.array([2.5]).view(np.int64)[0])
        call(load(numba_source("sample_kernels", "saxpy")), [x.ctypes.data, y.ctypes.data, factor], 10, 990)
        expected = np.ones(1000, np.float32)
        expected[10:990] += np.float32(2.5) * x[10:990]
        np.testing.assert_array_equal(y, expected)

    @pytest.mark.parametrize(
        "function",
        ["exp", "tanh", "erf", "sqrt", "log", "sin", "cos", "floor", "ceil", "fabs", "log1p", "expm1", "lgamma"],
    )
    def test_mathematics(self, function: str) -> None:
        x = np.linspace(0.1, 5, 50, dtype=np.float32)
        y = np.zeros_like(x)
        call(load(numba_source("sample_kernels", "unary", function=function)), [x.ctypes.data, y.ctypes.data], 0, 50)
        expected = [getattr(math, function)(float(value)) for value in x]
        np.testing.assert_allclose(y, expected, rtol=2e-6)

    def test_a_helper_of_the_module(self) -> None:
        x, y = np.arange(40, dtype=np.float32), np.zeros(40, np.float32)
        call(load(numba_source("sample_kernels", "squares")), [x.ctypes.data, y.ctypes.data], 0, 40)
        np.testing.assert_array_equal(y, x * x)

    def test_dividing_by_zero_does_not_raise(self) -> None:
        x, d, y = np.array([7, -7, 5], np.int32), np.array([3, 3, 0], np.int32), np.zeros(3, np.int32)
        call(load(numba_source("sample_kernels", "remainder")), [x.ctypes.data, y.ctypes.data, d.ctypes.data], 0, 3)
        assert list(y[:2]) == [1, 2]

    def test_negative_indices_do_not_wrap_around(self) -> None:
        x = np.zeros(8, np.uint8)
        call(load(numba_source("sample_kernels", "from_the_end")), [x.ctypes.data + 4], 0, 3)
        assert list(x) == [0, 0, 1, 1, 1, 0, 0, 0]

    def test_fast_math_is_off_unless_asked_for(self) -> None:
        x, result = np.ones(100_000, np.float32) / 3, np.zeros(1, np.float32)
        exact = np.float32(0)
        for value in x:
            exact += value
        for fast in ("no", "yes"):
            call(
                load(numba_source("sample_kernels", "total", fast=fast)), [x.ctypes.data, result.ctypes.data], 0, len(x)
            )
            assert bool(result[0] == exact) is (fast == "no")
            assert result[0] == pytest.approx(len(x) / 3, rel=1e-3)

    def test_a_kernel_that_may_raise_is_refused(self) -> None:
        with pytest.raises(KernelError, match=r"sample_kernels_raising.*may raise"):
            load(numba_source("sample_kernels", "raising"))

    def test_a_kernel_that_allocates_is_refused(self) -> None:
        with pytest.raises(KernelError, match=r"(?s)sample_kernels_allocating_.*NRT required"):
            load(numba_source("sample_kernels", "allocating"))

    def test_a_kernel_that_needs_numba_at_run_time_is_refused(self) -> None:
        with pytest.raises(KernelError, match=r"gamma.*refers to 'numba_gammaf'"):
            load(numba_source("sample_kernels", "gamma"))

    def test_a_kernel_that_numba_cannot_type_says_why(self) -> None:
        with pytest.raises(KernelError, match=r"(?s)cannot compile kernel 'sample_kernels_objects_.*unheard_of"):
            load(numba_source("sample_kernels", "objects"))

    def test_a_factory_that_does_not_exist(self) -> None:
        with pytest.raises(KernelError, match="no function 'nothing'"):
            load(numba_source("sample_kernels", "nothing"))

    def test_specializations_are_different_kernels(self) -> None:
        one, two = (numba_source("sample_kernels", "unary", function=name) for name in ("exp", "log"))
        assert one.symbol != two.symbol
        assert one.symbol.replace("_", "").isalnum()

    def test_kernels_run_with_every_mask(self) -> None:
        source = numba_source("sample_kernels", "squares")
        for mask in ("baseline", "native"):
            address = load_kernels([source], host_target(mask))[source.symbol]
            x, y = np.arange(40, dtype=np.float32), np.zeros(40, np.float32)
            call(address, [x.ctypes.data, y.ctypes.data], 0, 40)
            np.testing.assert_array_equal(y, x * x)


class TestVersion:
    @pytest.fixture
    def package(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        (tmp_path / "versioned.py").write_text('KERNEL_DEPENDENCIES: tuple[str, ...] = ("versioned_helper",)\n')
        (tmp_path / "versioned_helper.py").write_text("raise ImportError('nobody imports me to learn my version')\n")
        monkeypatch.syspath_prepend(str(tmp_path))
        return tmp_path

    def version(self) -> str:
        kernel_version.cache_clear()
        return kernel_version("versioned")

    @pytest.mark.parametrize("module", ["versioned", "versioned_helper"])
    def test_a_change_of_the_module_or_of_a_dependency_is_another_version(self, package: Path, module: str) -> None:
        before = self.version()
        assert self.version() == before
        with (package / f"{module}.py").open("a") as file:
            file.write("# changed\n")
        assert self.version() != before

    def test_a_module_that_does_not_exist(self) -> None:
        with pytest.raises(KernelError, match="no_such_module"):
            numba_source("no_such_module", "anything")


WARM = """
import sys
sys.path.insert(0, {folder!r})
from mace_core.native.kernel import load_kernels
from mace_core.native.numba_kernel import numba_source
from mace_core.native.plan import NativePlan
source = numba_source("sample_kernels", "saxpy")
assert load_kernels([source])[source.symbol]
print(sorted({{"numba", "sample_kernels", "onnx"}} & set(sys.modules)))
"""


def test_a_second_process_imports_neither_numba_nor_the_kernel_module(tmp_path: Path) -> None:
    script = WARM.format(folder=str(Path(__file__).parent))
    outputs = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "MACE_CACHE_DIR": str(tmp_path)},
            capture_output=True,
            text=True,
            check=True,
        )
        outputs.append(done.stdout.strip())
    assert "numba" in outputs[0], outputs
    assert outputs[1] == "[]"


def test_processes_that_build_the_same_kernel_at_once_all_succeed(tmp_path: Path) -> None:
    script = WARM.format(folder=str(Path(__file__).parent))
    environment = {**os.environ, "MACE_CACHE_DIR": str(tmp_path)}
    processes = [
        subprocess.Popen([sys.executable, "-c", script], env=environment, stdout=subprocess.DEVNULL) for _ in range(3)
    ]
    assert [process.wait(120) for process in processes] == [0, 0, 0]


def many_sources(count: int) -> list[KernelSource]:
    return [
        KernelSource(f"store_many_{i}", "1", functools.partial(store_many_ir, f"store_many_{i}", i))
        for i in range(count)
    ]


def store_many_ir(symbol: str, value: int, target: Target) -> str:
    return store_source(symbol, value).build(target)


class TestHelperProcesses:
    """Many kernels are built by several processes; the result is the same."""

    @pytest.fixture(autouse=True)
    def processes(self, monkeypatch: pytest.MonkeyPatch, forget: Callable[[], None]) -> None:
        monkeypatch.setenv("MACE_BUILD_PROCESSES", "3")

    @pytest.mark.usefixtures("sample_modules")
    def test_all_kernels_work(self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
        here: list[str] = []

        def slow(ir: str, symbol: str, target: Target) -> bytes:
            here.append(symbol)
            time.sleep(0.4)
            return compile_object(ir, symbol, target)

        monkeypatch.setattr(builder, "compile_object", slow)
        names = (
            "acos",
            "asin",
            "atan",
            "cosh",
            "sinh",
            "tan",
            "sqrt",
            "log",
            "exp",
            "floor",
            "ceil",
            "fabs",
            "expm1",
            "log1p",
        )
        sources = {name: numba_source("sample_kernels", "unary", function=name) for name in names}
        seen: list[int] = []
        with caplog.at_level(logging.INFO, "mace.native"):
            addresses = load_kernels(list(sources.values()), progress=lambda done, total: seen.append(done))
        assert "helper" not in caplog.text
        assert 0 < len(here) < len(names)
        assert (seen[0], seen[-1]) == (0, len(names))
        assert seen == sorted(seen)
        x = np.linspace(0.1, 0.9, 8, dtype=np.float32)
        for name, source in sources.items():
            y = np.zeros_like(x)
            call(addresses[source.symbol], [x.ctypes.data, y.ctypes.data], 0, 8)
            np.testing.assert_allclose(y, [getattr(math, name)(float(value)) for value in x], rtol=1e-5)

    def test_sources_that_no_other_process_can_build_are_built_here(self) -> None:
        # functions of a test module have no importable name, closures no name at all
        sources = [*many_sources(14), *(store_source(f"store_closure_{i}", i) for i in range(14))]
        addresses = load_kernels(sources)
        for i in range(14):
            for kind in ("many", "closure"):
                cell = np.zeros(1, np.int64)
                call(addresses[f"store_{kind}_{i}"], [cell.ctypes.data], 0, 1)
                assert cell[0] == i

    @pytest.mark.usefixtures("sample_modules")
    def test_an_error_is_raised_here_and_leaves_no_process(self) -> None:
        good = [
            numba_source("sample_kernels", "unary", function=name) for name in ("acos", "asin", "atan", "cosh", "sinh")
        ]
        bad = [numba_source("sample_kernels", name) for name in ("objects", "allocating")]
        before = {child.pid for child in psutil.Process().children()}
        with pytest.raises(KernelError, match="numba cannot compile"):
            load_kernels([*good, *bad, *good, numba_source("sample_kernels", "squares")])
        assert {child.pid for child in psutil.Process().children()} == before

    @pytest.mark.usefixtures("sample_modules")
    def test_helpers_that_die_are_coped_with(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(builder, "_HELPER", "import os; os._exit(9)")
        names = ("acos", "asin", "atan", "cosh", "sinh", "tan", "sqrt", "log", "exp", "floor", "ceil", "fabs")
        sources = [numba_source("sample_kernels", "unary", function=name) for name in names]
        with caplog.at_level(logging.INFO, "mace.native"):
            assert len(load_kernels(sources)) == len(names)
        assert "it ended" in caplog.text

    def test_a_wrong_setting_is_an_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MACE_BUILD_PROCESSES", "many")
        with pytest.raises(UsageError, match="MACE_BUILD_PROCESSES is 'many'"):
            load(store_source("store_setting", 1))
