"""What happens before the first turn of a loop, and after each."""

from __future__ import annotations

from typing import Any

from mace_core.native.numba_prelude import Kernel, i64, u8
from mace_cpu.shared.kernels.primitives import copy_bytes

KERNEL_DEPENDENCIES = ("mace_cpu.shared.kernels.primitives",)

WORDS = {
    "begin_loop": "trips condition counter going most fault count target[count] source[count] nbytes[count]",
    "end_turn": "trips condition counter going count target[count] source[count] nbytes[count] stride[count]",
}


def begin_loop() -> Kernel:
    """Copies what is carried to where turns read it, and says whether there is a first turn.

    ``trips`` and ``condition`` are 0 where the loop has none; more than ``most`` trips are reported to ``fault``.
    """

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        i64(args[2])[0] = 0
        goes_on = 1
        if args[0] != 0 and i64(args[0])[0] <= 0:
            goes_on = 0
        if args[1] != 0 and u8(args[1])[0] == 0:
            goes_on = 0
        if goes_on != 0 and args[0] != 0 and i64(args[0])[0] > args[4]:
            i64(args[5])[0] = 1
            i64(args[5])[1] = i64(args[0])[0]
            goes_on = 0
        u8(args[3])[0] = goes_on
        count = args[6]
        for i in range(count):
            copy_bytes(args[7 + i], args[7 + count + i], args[7 + 2 * count + i])

    return kernel


def end_turn() -> Kernel:
    """Copies what a turn computed to where the next one reads it, or where it is gathered, and says whether there is a
    next turn."""

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        turn = i64(args[2])[0]
        count = args[4]
        for i in range(count):
            target = args[5 + i] + turn * args[5 + 3 * count + i]
            copy_bytes(target, args[5 + count + i], args[5 + 2 * count + i])
        turn += 1
        i64(args[2])[0] = turn
        goes_on = 1
        if args[0] != 0 and turn >= i64(args[0])[0]:
            goes_on = 0
        if args[1] != 0 and u8(args[1])[0] == 0:
            goes_on = 0
        u8(args[3])[0] = goes_on

    return kernel
