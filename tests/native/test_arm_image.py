"""Code of aarch64 linked without LLVM: run on an emulated processor, and each relocation held to its definition."""

from __future__ import annotations

import math
import random
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mace_core.native import elf
from mace_core.native.compiler import compile_object
from mace_core.native.image import link_image
from mace_core.native.relocations import processor_of
from mace_core.native.source import KernelSource
from mace_core.native.target import foreign_target

emulated = pytest.importorskip("mace_testing.emulated", reason="needs unicorn", exc_type=ImportError)

TARGET = foreign_target("aarch64")

# constants of every width, a jump table, and calls out of the object, one of them as the last act
CONSTANTS = """
@bytes = internal constant [4 x i8] c"\\01\\03\\05\\07"
@single = internal constant i8 43
@shorts = internal constant [3 x i16] [i16 11, i16 13, i16 17]
@words = internal constant [3 x i32] [i32 19, i32 23, i32 29]
@longs = internal constant [3 x i64] [i64 31, i64 37, i64 41]
@vectors = internal constant [2 x <4 x float>] [<4 x float> <float 1.5, float 2.5, float 3.5, float 4.5>,
                                               <4 x float> <float 0.5, float 8.5, float 9.5, float 7.5>], align 16
define void @test_constants(ptr %args, i64 %begin, i64 %end, i64 %chunk) {
  %out = load ptr, ptr %args
  %at = getelementptr [4 x i8], ptr @bytes, i64 0, i64 %begin
  %any = load volatile i8, ptr %at
  %a = load volatile i8, ptr @single
  %b = load volatile i16, ptr getelementptr ([3 x i16], ptr @shorts, i64 0, i64 1)
  %c = load volatile i32, ptr getelementptr ([3 x i32], ptr @words, i64 0, i64 2)
  %d = load volatile i64, ptr getelementptr ([3 x i64], ptr @longs, i64 0, i64 1)
  %v = load volatile <4 x float>, ptr getelementptr ([2 x <4 x float>], ptr @vectors, i64 0, i64 1), align 16
  %aa = uitofp i8 %a to double
  %bb = uitofp i16 %b to double
  %cc = uitofp i32 %c to double
  %dd = uitofp i64 %d to double
  %ee = uitofp i8 %any to double
  %first = extractelement <4 x float> %v, i32 1
  %ff = fpext float %first to double
  store double %aa, ptr %out
  %p1 = getelementptr double, ptr %out, i64 1
  store double %bb, ptr %p1
  %p2 = getelementptr double, ptr %out, i64 2
  store double %cc, ptr %p2
  %p3 = getelementptr double, ptr %out, i64 3
  store double %dd, ptr %p3
  %p4 = getelementptr double, ptr %out, i64 4
  store double %ee, ptr %p4
  %p5 = getelementptr double, ptr %out, i64 5
  store double %ff, ptr %p5
  ret void
}
"""
ADDRESS_OF_A_FUNCTION = """
declare double @cos(double)
define void @test_pointer(ptr %args, i64 %begin, i64 %end, i64 %chunk) {
  %out = load ptr, ptr %args
  %what = load volatile i64, ptr %args
  %some = icmp eq i64 %what, 0
  %f = select i1 %some, ptr null, ptr @cos
  %y = call double %f(double 0.5)
  store double %y, ptr %out
  ret void
}
"""
CALLS = """
declare double @sin(double)
declare double @cos(double)
define void @test_calls(ptr %args, i64 %begin, i64 %end, i64 %chunk) {
  %out = load ptr, ptr %args
  %x = load double, ptr %out
  switch i64 %begin, label %other [
    i64 0, label %zero
    i64 1, label %one
    i64 2, label %two
    i64 3, label %three
    i64 4, label %four
  ]
zero:
  %a = call double @sin(double %x)
  br label %done
one:
  %b = call double @cos(double %x)
  br label %done
two:
  %c = fmul double 0x400921FB54442D18, %x
  br label %done
three:
  %b3 = fadd double %x, 1.0
  %d = call double @sin(double %b3)
  br label %done
four:
  %e = call double @cos(double %x)
  br label %done
other:
  br label %done
done:
  %y = phi double [%a, %zero], [%b, %one], [%c, %two], [%d, %three], [%e, %four], [0.125, %other]
  store double %y, ptr %out
  ret void
}
"""
LAST_CALL = """
declare void @sink(ptr, i64, i64, i64)
define void @test_last(ptr %args, i64 %begin, i64 %end, i64 %chunk) {
  tail call void @sink(ptr %args, i64 %begin, i64 %end, i64 %chunk)
  ret void
}
"""


def source(symbol: str, ir: str) -> KernelSource:
    return KernelSource(symbol, "1", lambda target: ir)


def relocations(ir: str, symbol: str) -> set[int]:
    found = elf.read_object(compile_object(ir, symbol, TARGET))
    names = [section.name for section in found.sections]
    return {r.kind for r in found.relocations if names[r.section] != ".eh_frame"}


def test_constants_of_every_width_are_found() -> None:
    linked = emulated.link_for_arm([source("test_constants", CONSTANTS)], TARGET)
    out = np.zeros(6)
    # far from where the code was linked, so that a distance from nothing would be seen
    for base in (0x10_0000_0000, 0x55_5555_5000):
        emulated.EmulatedArm(linked, base=base).call("test_constants", [out], begin=2)
        np.testing.assert_array_equal(out, [43, 13, 29, 37, 5, 8.5])
        out[:] = 0


def test_the_objects_have_the_relocations_that_are_meant() -> None:
    assert relocations(CONSTANTS, "test_constants") >= {275, 277, 278, 284, 285, 286, 299}
    assert relocations(CALLS, "test_calls") >= {275, 283}
    assert relocations(LAST_CALL, "test_last") == {282}
    assert relocations(ADDRESS_OF_A_FUNCTION, "test_pointer") >= {311, 312}


@pytest.mark.parametrize("kind", range(6))
def test_calls_out_of_the_image_and_jump_tables(kind: int) -> None:
    first = source("test_constants", CONSTANTS)  # so that the other is not at the image's beginning
    linked = emulated.link_for_arm([first, source("test_calls", CALLS)], TARGET)
    assert set(linked.imports) == {"sin", "cos"}
    functions = {"sin": emulated.of_doubles(math.sin), "cos": emulated.of_doubles(math.cos)}
    out = np.array([0.25])
    emulated.EmulatedArm(linked, functions).call("test_calls", [out], begin=kind)
    expected = [math.sin(0.25), math.cos(0.25), 0.25 * math.pi, math.sin(1.25), math.cos(0.25), 0.125]
    assert out[0] == expected[kind]


def test_the_address_of_a_function_from_outside() -> None:
    linked = emulated.link_for_arm([source("test_pointer", ADDRESS_OF_A_FUNCTION)], TARGET)
    out = np.zeros(1)
    emulated.EmulatedArm(linked, {"cos": emulated.of_doubles(math.cos)}).call("test_pointer", [out])
    assert out[0] == math.cos(0.5)


def test_a_call_that_ends_a_kernel() -> None:
    linked = emulated.link_for_arm([source("test_last", LAST_CALL)], TARGET)
    calls: list[object] = []
    emulated.EmulatedArm(linked, {"sink": calls.append}).call("test_last", [])
    assert len(calls) == 1


def test_reading_outside_the_memory_given_is_noticed() -> None:
    ir = """
define void @test_outside(ptr %args, i64 %begin, i64 %end, i64 %chunk) {
  %out = load ptr, ptr %args
  %p = getelementptr i8, ptr %out, i64 1000000
  %x = load volatile i64, ptr %p
  ret void
}
"""
    linked = emulated.link_for_arm([source("test_outside", ir)], TARGET)
    with pytest.raises(RuntimeError, match="test_outside"):
        emulated.EmulatedArm(linked).call("test_outside", [np.zeros(1)])


# --- the arithmetic, held to the definitions of AAELF64 by a decoder of its own --------------------------------------


def filled(kind: int, code: int, place: int, target: int, *, is_stored: bool = False) -> int | None:
    arm = processor_of("aarch64")
    assert arm is not None
    content = bytearray(place) + struct.pack("<I", code)
    if not arm.fill(content, place, kind, target, is_stored=is_stored):
        return None
    assert content[:place] == bytes(place)
    return int(struct.unpack_from("<I", content, place)[0])


def signed(value: int, bits: int) -> int:
    return value - (1 << bits) if value >> bits - 1 & 1 else value


PLACES = st.integers(0, 3000).map(lambda i: 4 * i)


@settings(max_examples=100)
@given(PLACES, st.integers(-(1 << 31), (1 << 31) - 1))
def test_pages(place: int, target: int) -> None:
    adrp = 0x90000000 | random.Random(place).randrange(32)
    code = filled(275, adrp, place, target)
    assert code is not None
    pages = signed((code >> 5 & 0x7FFFF) << 2 | code >> 29 & 3, 21)
    assert (place & ~0xFFF) + (pages << 12) == target & ~0xFFF
    assert code & 0x9F00001F == adrp


@pytest.mark.parametrize(
    ("kind", "code", "unit"),
    [
        (277, 0x91000042, 1), (278, 0x39400042, 1), (284, 0x79400042, 2), (285, 0xB9400042, 4), (286, 0xF9400042, 8),
        (299, 0x3DC00042, 16),
    ],
)  # fmt: skip
def test_what_is_left_of_a_page(kind: int, code: int, unit: int) -> None:
    for target in (0, unit, 4096 - unit, 4096 + 5 * unit, 1 << 20 | 7 * unit):
        found = filled(kind, code, 8, target)
        assert found is not None
        assert (found >> 10 & 0xFFF) * unit == target % 4096
        assert found & ~(0xFFF << 10) == code
    assert (filled(kind, code, 8, unit + 1) is None) == (unit > 1)


@settings(max_examples=100)
@given(PLACES, st.integers(-(1 << 27), (1 << 27) - 4), st.sampled_from([282, 283]))
def test_calls_reach_128_megabytes(place: int, distance: int, kind: int) -> None:
    distance &= ~3
    code = filled(kind, 0x94000000, place, place + distance)
    assert code is not None
    assert 4 * signed(code & 0x3FFFFFF, 26) == distance


@pytest.mark.parametrize("distance", [1 << 27, -(1 << 27) - 4, 2])
def test_calls_that_reach_no_further_are_left_to_llvm(distance: int) -> None:
    assert filled(283, 0x94000000, 64, 64 + distance) is None


def test_an_address_nearby_is_computed_where_code_would_load_it() -> None:
    load = 0xF9400000 | 3 << 5 | 7  # ldr x7, [x3]
    assert filled(312, load, 8, 0x1238, is_stored=True) == load | 0x238 // 8 << 10
    assert filled(312, load, 8, 0x1235) == 0x91000000 | 0x235 << 10 | 3 << 5 | 7  # add x7, x3, #0x235


@settings(max_examples=100)
@given(data=st.data())
def test_a_damaged_object_is_noticed_or_linked_within_its_image(data: st.DataObject) -> None:
    whole = bytearray(compiled("test_calls", CALLS))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    del whole[data.draw(st.integers(0, len(whole))) :]
    try:
        linked = link_image([bytes(whole)], "aarch64")
    except ValueError:
        return
    if linked is not None:
        assert all(0 <= at <= len(linked.content) - 8 for at in linked.imports.values())


_COMPILED: dict[str, bytes] = {}


def compiled(symbol: str, ir: str) -> bytes:
    if symbol not in _COMPILED:
        _COMPILED[symbol] = compile_object(ir, symbol, TARGET)
    return _COMPILED[symbol]
