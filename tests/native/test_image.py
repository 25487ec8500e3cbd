"""Code linked without LLVM: it computes what LLVM's own loader makes of the same objects, or is left to that."""

from __future__ import annotations

import ctypes
import functools
import sys
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mace_core.native import image, kernel, loader
from mace_core.native.compiler import compile_object
from mace_core.native.errors import KernelError
from mace_core.native.image import CodeImage, link_image
from mace_core.native.kernel import load_packed, pack_kernels
from mace_core.native.numba_kernel import numba_source
from mace_core.native.relocations import processor_of
from mace_core.native.source import KernelSource
from mace_core.native.target import foreign_target, host_target

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or processor_of() is None, reason="images are of ELF objects of x86-64 and aarch64"
)

# constants in memory, a jump table, a call out of the object, and data that has an address of its own
SWITCH = """
@table = internal constant [4 x double] [double 1.5, double -2.5, double 3.25, double 1.0e300]
declare double @tgamma(double)
declare double @cos(double)
define void @test_switch(ptr %args, i64 %begin, i64 %end, i64 %chunk) {
entry:
  %out = load ptr, ptr %args
  %kind.at = getelementptr i64, ptr %args, i64 1
  %kind = load i64, ptr %kind.at
  %slot = and i64 %kind, 3
  %p = getelementptr [4 x double], ptr @table, i64 0, i64 %slot
  %x = load double, ptr %p
  switch i64 %kind, label %other [
    i64 0, label %zero
    i64 1, label %one
    i64 2, label %two
    i64 3, label %three
    i64 4, label %four
  ]
zero:
  %a = call double @tgamma(double %x)
  br label %done
one:
  %b = call double @cos(double %x)
  br label %done
two:
  %c = fmul double %x, 0x400921FB54442D18
  br label %done
three:
  br label %done
four:
  %d = call double @tgamma(double 5.0)
  br label %done
other:
  br label %done
done:
  %y = phi double [%a, %zero], [%b, %one], [%c, %two], [%x, %three], [%d, %four], [0.125, %other]
  store double %y, ptr %out
  ret void
}
"""
EXPECTED = [0.886226925452758, np.cos(-2.5), 3.25 * np.pi, 1e300, 24.0, 0.125]


def objects_of(*sources: KernelSource) -> dict[str, bytes]:
    target = host_target()
    return {s.symbol: compile_object(s.build(target), s.symbol, target) for s in sources}


def filling(name: str, number: int) -> KernelSource:
    """A kernel that stores a number."""
    ir = f"""
define void @{name}(ptr %args, i64 %begin, i64 %end, i64 %chunk) {{
  %out = load ptr, ptr %args
  store i64 {number}, ptr %out
  ret void
}}
"""
    return KernelSource(name, "1", lambda target: ir)


SEVEN, EIGHT = filling("test_seven", 7), filling("test_eight", 8)
SOURCE = KernelSource("test_switch", "1", lambda target: SWITCH)


def called(address: int) -> Callable[[int, int, int, int], None]:
    return ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)(address)


def switch(address: int) -> Callable[[int], float]:
    call = called(address)

    def run(kind: int) -> float:
        out = np.zeros(1)
        args = np.array([out.ctypes.data, kind], np.int64)
        call(args.ctypes.data, 0, 1, 0)
        return float(out[0])

    return run


def test_constants_jump_tables_and_calls_are_linked() -> None:
    objects = objects_of(SOURCE, SEVEN, EIGHT)
    linked = loader.prelink([SEVEN, SOURCE, EIGHT], objects)
    assert linked is not None
    assert set(linked.symbols) == {"test_switch", "test_seven", "test_eight"}
    assert set(linked.imports) == {"tgamma", "cos"}
    addresses = loader.load_prelinked(linked)
    assert addresses is not None
    run = switch(addresses["test_switch"])
    np.testing.assert_allclose([run(kind) for kind in range(6)], EXPECTED, rtol=1e-12)
    out = np.zeros(1, np.int64)
    for symbol, number in (("test_seven", 7), ("test_eight", 8)):
        called(addresses[symbol])(np.array([out.ctypes.data], np.int64).ctypes.data, 0, 1, 0)
        assert out[0] == number


def test_it_is_what_llvm_s_loader_makes_of_the_same_objects() -> None:
    objects = objects_of(SOURCE)
    ours, theirs = loader.link_objects([SOURCE], objects), loader._link_with_llvm([SOURCE], objects)
    assert ours["test_switch"] != theirs["test_switch"]
    for kind in range(6):
        assert switch(ours["test_switch"])(kind) == switch(theirs["test_switch"])(kind)


def test_kernels_written_in_python_are_linked(sample_modules: str) -> None:
    source = numba_source(sample_modules, "unary", function="tan")
    kernel.load_kernels([source])
    packed = pack_kernels([source])
    assert packed is not None
    call = called(load_packed(packed)[source.symbol])
    x, y = np.linspace(-1, 1, 100, dtype=np.float32), np.zeros(100, np.float32)
    args = np.array([x.ctypes.data, y.ctypes.data], np.int64)
    call(args.ctypes.data, 0, 100, 0)
    np.testing.assert_allclose(y, np.tan(x), rtol=1e-5)


@pytest.mark.parametrize(
    ("what", "definition"),
    [
        ("data that is written", "@state = internal global i64 0\n"),
        ("data without content", "@state = internal global [64 x i64] zeroinitializer\n"),
        ("data of each thread", "@state = internal thread_local global i64 0\n"),
    ],
)
def test_what_is_more_than_code_and_constants_is_left_to_llvm(what: str, definition: str) -> None:
    ir = (
        definition
        + """
define void @test_state(ptr %args, i64 %begin, i64 %end, i64 %chunk) {
  %old = load i64, ptr @state
  %new = add i64 %old, %end
  store i64 %new, ptr @state
  ret void
}
"""
    )
    assert link_image([compile_object(ir, "test_state", host_target())]) is None


def test_objects_of_another_processor_are_left_to_llvm() -> None:
    target = foreign_target("x86_64" if host_target().architecture == "aarch64" else "aarch64")
    assert link_image([compile_object(SEVEN.build(target), SEVEN.symbol, target)]) is None
    assert link_image([b"MZ not ELF at all" * 10]) is None


@functools.cache
def switch_object() -> bytes:
    return objects_of(SOURCE)["test_switch"]


@settings(max_examples=200)
@given(data=st.data())
def test_a_damaged_object_is_noticed_or_linked_within_its_image(data: st.DataObject) -> None:
    """Objects have checksums; still, no damage may make the linker write outside, or raise anything unexpected."""
    whole = bytearray(switch_object())
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    del whole[data.draw(st.integers(0, len(whole))) :]
    try:
        linked = link_image([bytes(whole)])
    except ValueError:
        return
    if linked is not None:
        assert all(0 <= at <= len(linked.content) - 8 for at in linked.imports.values())


def test_a_damaged_object_names_its_kernel() -> None:
    objects = objects_of(SOURCE)
    with pytest.raises(KernelError, match="test_switch"):
        loader.prelink([SOURCE], {"test_switch": objects["test_switch"][:200]})


def test_where_memory_can_not_be_made_executable_llvm_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*ignored: object) -> dict[str, int]:
        raise OSError(13, "denied")

    monkeypatch.setattr(loader, "load_image", refuse)
    assert switch(loader.link_objects([SOURCE], objects_of(SOURCE))["test_switch"])(4) == 24.0


def test_a_function_that_is_not_here_is_no_crash() -> None:
    linked = CodeImage(bytes(64), {"k": 0}, {"no_such_function_anywhere": 8})
    assert loader.load_prelinked(linked) is None


@pytest.mark.parametrize("images", [True, False])
def test_packed_kernels_run_in_the_same_way(images: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where nothing can be linked in advance: then the objects themselves are packed."""
    if not images:
        monkeypatch.setattr(loader, "can_load_images", lambda: False)
    kernel.load_kernels([SOURCE, SEVEN])
    packed = pack_kernels([SOURCE, SEVEN, SOURCE])
    assert packed is not None
    addresses = load_packed(packed)
    assert set(addresses) == {"test_switch", "test_seven"}
    np.testing.assert_allclose(switch(addresses["test_switch"])(1), EXPECTED[1])


def test_kernels_that_were_never_loaded_are_not_packed() -> None:
    kernel.load_kernels([SOURCE])
    assert pack_kernels([SOURCE, filling("test_nine", 9)]) is None


def test_images_can_be_loaded_here() -> None:
    assert image.can_load_images()
