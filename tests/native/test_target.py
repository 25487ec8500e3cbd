"""Targets: this processor, less of it, and foreign ones."""

from __future__ import annotations

import re

import llvmlite.binding as llvm
import pytest

from mace_core.errors import UsageError
from mace_core.native.compiler import compile_assembly, compile_object
from mace_core.native.elf import read_symbols
from mace_core.native.pool_ir import STOP, WORKER
from mace_core.native.runner_ir import RUNNER
from mace_core.native.target import foreign_target, host_target

X86 = llvm.get_process_triple().startswith("x86_64")
x86_only = pytest.mark.skipif(not X86, reason="masks avx2, sse2 are for x86-64")

ADD = """
define void @add(ptr %args, i64 %begin, i64 %end, i64 %chunk) {
entry:
  %x = load ptr, ptr %args
  br label %loop
loop:
  %i = phi i64 [ %begin, %entry ], [ %next, %loop ]
  %p = getelementptr float, ptr %x, i64 %i
  %v = load float, ptr %p
  %w = fadd float %v, 1.0
  store float %w, ptr %p
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, %end
  br i1 %more, label %loop, label %out
out:
  ret void
}
"""


def test_the_host_has_what_llvm_says_it_has() -> None:
    target = host_target("native")
    present = {name for name, on in llvm.get_host_cpu_features().items() if on}
    assert present <= set(target.features)
    assert target.vector_bits in (128, 256, 512)
    assert not target.has("no such feature")


@x86_only
def test_masks_narrow_vectors_and_features() -> None:
    baseline = host_target("baseline")
    assert (baseline.vector_bits, baseline.has("sse2"), baseline.has("avx")) == (128, True, False)
    assert host_target("sse2") == baseline


@x86_only
def test_the_mask_avx2_gives_256_bits_and_no_more() -> None:
    if not host_target("native").has("avx2"):
        pytest.skip("this processor has no AVX2")
    avx2 = host_target("avx2")
    assert (avx2.vector_bits, avx2.has("fma"), avx2.has("avx512f")) == (256, True, False)
    assert avx2.key != host_target("baseline").key


@x86_only
@pytest.mark.parametrize(("mask", "feature", "bits"), [("avxvnni", "avxvnni", 256), ("avx512vnni", "avx512vnni", 512)])
def test_masks_with_dot_products_of_bytes(mask: str, feature: str, bits: int) -> None:
    if not host_target("native").has(feature):
        with pytest.raises(UsageError, match=rf"'{mask}' needs .*{feature}"):
            host_target(mask)
        return
    target = host_target(mask)
    assert (target.vector_bits, target.has(feature)) == (bits, True)
    assert f"+{feature}" in target.attributes


@x86_only
@pytest.mark.parametrize(("mask", "absent", "present"), [("baseline", "ymm", "xmm"), ("avx2", "zmm", "ymm")])
def test_code_for_a_mask_keeps_to_it(mask: str, absent: str, present: str) -> None:
    assembly = compile_assembly(ADD, "add", host_target(mask))
    assert present in assembly
    assert absent not in assembly


@x86_only
def test_loops_are_vectorized_at_full_width() -> None:
    target = host_target("native")
    register = {512: "zmm", 256: "ymm", 128: "xmm"}[target.vector_bits]
    assert register in compile_assembly(ADD, "add", target)


def test_the_environment_sets_the_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MACE_CPU_FEATURES", "baseline")
    assert host_target() == host_target("baseline")
    monkeypatch.delenv("MACE_CPU_FEATURES")
    assert host_target() == host_target("native")


def test_an_unknown_mask_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"'avx1024' is not known.*baseline"):
        host_target("avx1024")


def test_object_code_for_another_architecture() -> None:
    target = foreign_target("aarch64")
    assert target.vector_bits == 128
    assert target.has("neon")
    image = compile_object(ADD, "add", target)
    assert int.from_bytes(image[18:20], "little") == 183  # EM_AARCH64
    assert read_symbols(image).defined == {"add"}
    assert "fadd\tv" in compile_assembly(ADD, "add", target)


@pytest.mark.parametrize("source", [RUNNER, WORKER, STOP], ids=lambda source: source.symbol)
def test_runner_and_pool_compile_for_aarch64(source: object) -> None:
    target = foreign_target("aarch64")
    image = compile_object(source.build(target), source.symbol, target)  # type: ignore[attr-defined]
    symbols = read_symbols(image)
    # without the LSE instructions LLVM calls helpers for atomics only if asked to; it must not here
    assert symbols.undefined <= {"clock_gettime", "pthread_self", "sched_yield", "syscall"}
    assert source.symbol in symbols.defined  # type: ignore[attr-defined]


def test_atomics_of_the_pool_are_ordered_on_aarch64() -> None:
    assembly = compile_assembly(WORKER.build(foreign_target("aarch64")), WORKER.symbol, foreign_target("aarch64"))
    assert re.search(r"\bldap?r\b", assembly), "loads that acquire"
    assert re.search(r"\b(stlxr|casal)\b", assembly), "exchanges that release"
