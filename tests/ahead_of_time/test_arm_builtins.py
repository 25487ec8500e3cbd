"""What 32-bit ARM has no instructions for is computed as every compiler's own functions compute it."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from programs import HERE, TOOLCHAINS, skip_without

from mace_core.native.arm_builtins import ARM_BUILTINS, arm_builtins_ir
from mace_core.native.compiler import compile_module
from mace_core.native.named_targets import named_target
from mace_core.native.relocatable import Relocatable

EDGES = [0, 1, 2, 3, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**32 + 1, 2**53 - 1, 2**53, 2**53 + 1, 2**62, 2**63 - 1]
MOST = 2**64


def signed(number: int) -> int:
    return (number + 2**63) % MOST - 2**63


def pairs() -> list[tuple[int, int]]:
    rng = np.random.default_rng(0)
    edges = [signed(sign * edge) for edge in EDGES for sign in (1, -1)] + [-(2**63)]
    drawn = [signed(int(rng.integers(0, MOST, dtype=np.uint64)) >> int(rng.integers(0, 64))) for _ in range(600)]
    # numbers whose bits below a float lie around a half: where rounding twice would show
    halves = [signed((1 << 40) + (1 << 16) + difference) for difference in (-1, 0, 1)]
    halves += [signed((1 << 62) + (1 << 38) + difference) for difference in (-1, 0, 1)]
    return [*itertools.product(edges, edges), *zip(drawn[::2], drawn[1::2], strict=True), *((h, 3) for h in halves)]


def expected(a: int, b: int) -> list[int]:
    b = b or 1
    ua, ub = a % MOST, b % MOST
    found = []
    if not (a == -(2**63) and b == -1):
        quotient = abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
        found += [quotient, a - quotient * b]
    found += [ua // ub, ua % ub]
    d, ud = np.float64(float(a)), np.float64(float(ua))
    f, uf = np.int64(a).astype(np.float32), np.uint64(ua).astype(np.float32)
    found += [int(x.view(np.uint64)) for x in (d, ud)] + [int(x.view(np.uint32)) for x in (f, uf)]
    return [*found, *(int(x / type(x)(1.25)) for x in (d, ud, f, uf))]


def test_every_function_computes_what_it_should(tmp_path: Path) -> None:
    skip_without("armeabi-v7a")
    chain, target = TOOLCHAINS["armeabi-v7a"], named_target("armeabi-v7a").target
    functions, program = tmp_path / "functions.o", tmp_path / "program"
    content = compile_module(arm_builtins_ir(), ARM_BUILTINS, "arm_builtins", target)
    with functions.open("wb") as file:
        Relocatable({"functions": content}, ARM_BUILTINS, []).write(file)
    command = [chain.compiler, "-O0", "-static", HERE / "arm_integers.c", functions, "-o", program, "-Wl,-Map,map"]
    subprocess.run(command, check=True, cwd=tmp_path)
    table = (tmp_path / "map").read_text()
    for name in ARM_BUILTINS:
        assert f"{name}" not in table.split("Linker script and memory map")[0], "the compiler's own took its place"
    numbers = pairs()
    text = "".join(f"{a} {b}\n" for a, b in numbers)
    done = subprocess.run([*chain.emulator, program], input=text, capture_output=True, text=True, check=True)
    for (a, b), line in zip(numbers, done.stdout.splitlines(), strict=True):
        assert [int(word) for word in line.split()] == expected(a, b), (a, b)
