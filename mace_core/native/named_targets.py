"""Processors that a model can be built for ahead of time, by the names that Android and compilers give them."""

from __future__ import annotations

import difflib
from typing import NamedTuple

from mace_core.errors import UsageError
from mace_core.native.target import Target, foreign_target, host_target, make_target


class TargetFacts(NamedTuple):
    """What a name stands for.

    Attributes:
        target: what generated code may use.
        needs: what a processor must have, in words.
    """

    target: Target
    needs: str


HOST = "host"
"""The processor of this machine, with all that it can do."""


def named_target(name: str) -> TargetFacts:
    """The processor of a name that `TARGET_NAMES` lists.

    Raises:
        UsageError: for another name.
    """
    if name == HOST:
        return TargetFacts(host_target(), "the processor of the machine that built it")
    found = _FOREIGN.get(name)
    if found is None:
        near = difflib.get_close_matches(name, TARGET_NAMES, 1)
        guess = f"did you mean '{near[0]}'? " if near else ""
        raise UsageError(f"there is no target '{name}'; {guess}the targets are {', '.join(TARGET_NAMES)}")
    return found


_X86 = "x86_64-unknown-linux-gnu"
_V2 = ("cx8", "fxsr", "mmx", "sse", "sse2", "cx16", "popcnt", "sahf", "sse3", "sse4.1", "sse4.2", "ssse3")
_V3 = (*_V2, "avx", "avx2", "bmi", "bmi2", "f16c", "fma", "lzcnt", "movbe", "xsave")
_V4 = (*_V3, "avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl")

# The environment of the triple decides on the convention for floats of calls into the C library.  There are none (see
# `mace_core.native.own_mathematics`), so that the result serves systems of both conventions.
_ARM32 = "armv7-unknown-linux-gnueabi"
_ARM32_ATTRIBUTES = "+v7,+neon,+vfp4,+hwdiv,+hwdiv-arm"

_ARM_V8_2 = ("dotprod", "fullfp16", "lse", "rdm")

_RISCV = "riscv64-unknown-linux-gnu"
_RISCV_BASE = ("m", "a", "f", "d", "c")


def _riscv(*more: str) -> Target:
    features = (*_RISCV_BASE, *more)
    attributes = ",".join(f"+{feature}" for feature in features)
    return make_target(_RISCV, "generic-rv64", frozenset(features), attributes)


_FOREIGN = {
    "arm64-v8a": TargetFacts(foreign_target("aarch64"), "any 64-bit ARM (ARMv8-A)"),
    "arm64-v8.2a": TargetFacts(
        make_target(
            foreign_target("aarch64").triple,
            "generic",
            frozenset(("neon", "fp-armv8", *_ARM_V8_2)),
            ",".join(f"+{feature}" for feature in _ARM_V8_2),
        ),
        "a 64-bit ARM of ARMv8.2 with products of bytes (Cortex-A55, A75 and later)",
    ),
    "armeabi-v7a": TargetFacts(
        make_target(_ARM32, "generic", frozenset(("neon", "vfp4")), _ARM32_ATTRIBUTES),
        "a 32-bit ARM with NEON, VFPv4 and division (Cortex-A7, A15 and later)",
    ),
    "riscv64": TargetFacts(_riscv(), "RV64GC, floats in registers (lp64d)"),
    "riscv64-v": TargetFacts(_riscv("v"), "RV64GC with the vector extension 1.0"),
    "x86-64": TargetFacts(foreign_target("x86_64"), "any 64-bit x86 (SSE2)"),
    "x86-64-v3": TargetFacts(make_target(_X86, "x86-64-v3", frozenset(_V3), ""), "AVX2 and FMA"),
    "x86-64-v4": TargetFacts(make_target(_X86, "x86-64-v4", frozenset(_V4), ""), "AVX-512 (F, BW, CD, DQ, VL)"),
}

TARGET_NAMES = (*_FOREIGN, HOST)
"""All names, in the order in which they are told."""
