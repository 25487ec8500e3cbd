"""Kernels of aarch64 in a process of x86-64: an emulated processor that runs linked code and counts instructions.

The emulator is unicorn, which knows ARMv8.2 with dot products and half floats, but neither i8mm nor bfloat16.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from unicorn import UC_ARCH_ARM64, UC_HOOK_BLOCK, UC_HOOK_CODE, UC_MODE_ARM, Uc, UcError
from unicorn import arm64_const as arm

from mace_core.native.compiler import compile_object
from mace_core.native.image import CodeImage, link_image
from mace_core.native.poll_ir import Control
from mace_core.native.source import KernelSource
from mace_core.native.target import Target

_PAGE = 4096
_CODE, _STUBS, _STACK, _DATA = 0x10_0000_0000, 0x20_0000_0000, 0x30_0000_0000, 0x40_0000_0000
_STACK_BYTES = 1 << 20
_RETURN = struct.pack("<I", 0xD65F03C0)
_FLOATING_POINT_ON = 0x300000
_END, _POLL = _STUBS, _STUBS + 16
_FIRST_FUNCTION = _STUBS + 32

Function = Callable[[Uc], None]
"""What stands for a function from outside: it reads and writes the registers of the emulated processor."""


def link_for_arm(sources: Sequence[KernelSource], target: Target) -> CodeImage:
    """Kernels compiled for an aarch64 ``target`` and linked.

    Raises:
        ValueError: an object holds what only LLVM's loader knows how to load.
    """
    objects = [compile_object(source.build(target), source.symbol, target) for source in sources]
    image = link_image(objects, "aarch64")
    if image is None:
        raise ValueError(f"{', '.join(source.symbol for source in sources)} cannot be linked without LLVM")
    return image


class EmulatedArm:
    """An aarch64 processor with linked kernels in its memory.

    Args:
        image: the kernels.
        functions: what its imports do.
        base: where the code lies; a multiple of 4096.

    Attributes:
        instructions: how many the last call took.
        blocks: of the last call: offset and bytes of a straight stretch of code, and how often it ran.
    """

    def __init__(self, image: CodeImage, functions: Mapping[str, Function] | None = None, *, base: int = _CODE) -> None:
        self._image, self._base = image, base
        self._emulator = emulator = Uc(UC_ARCH_ARM64, UC_MODE_ARM)
        emulator.ctl_set_cpu_model(arm.UC_CPU_ARM64_MAX)
        code = bytearray(image.content)
        stubs = bytearray(_RETURN.ljust(16, b"\0") + struct.pack("<II", 0xD2800000, 0xD65F03C0).ljust(16, b"\0"))
        for name, offset in image.imports.items():
            struct.pack_into("<Q", code, offset, _STUBS + len(stubs))
            act = (functions or {})[name]
            place = _STUBS + len(stubs)
            emulator.hook_add(UC_HOOK_CODE, self._calling(act), begin=place, end=place)
            stubs += _RETURN.ljust(16, b"\0")
        for at, content in ((base, bytes(code)), (_STUBS, bytes(stubs)), (_STACK, bytes(_STACK_BYTES))):
            emulator.mem_map(at, -(-max(len(content), 1) // _PAGE) * _PAGE)
            emulator.mem_write(at, content)
        emulator.reg_write(arm.UC_ARM64_REG_CPACR_EL1, _FLOATING_POINT_ON)
        emulator.hook_add(UC_HOOK_BLOCK, self._count)
        self._mapped = 0
        self.instructions = 0
        self.blocks: dict[tuple[int, int], int] = {}

    def call(
        self, symbol: str, words: Sequence[int | npt.NDArray[Any]], begin: int = 0, end: int = 1, chunk: int = 0
    ) -> None:
        """Call a kernel; arrays among its argument words are given by address, and changed as the kernel changes them.

        Raises:
            RuntimeError: the kernel did what no kernel may, such as reading outside the memory that it was given.
        """
        data = bytearray(8 * (Control.SIZE.value + 1 + len(words)))
        struct.pack_into("<Q", data, 8 * Control.POLL.value, _POLL)
        control, places = Control.SIZE.value, list[int]()
        for word in words:
            if isinstance(word, np.ndarray):
                data += bytes(-len(data) % 64)
                places.append(_DATA + len(data))
                data += np.ascontiguousarray(word).tobytes()
            else:
                places.append(word % (1 << 64))
        struct.pack_into(f"<{len(words) + 1}Q", data, 8 * control, _DATA, *places)
        emulator = self._emulator
        if self._mapped:
            emulator.mem_unmap(_DATA, self._mapped)
        self._mapped = -(-len(data) // _PAGE) * _PAGE
        emulator.mem_map(_DATA, self._mapped)
        emulator.mem_write(_DATA, bytes(data))
        for number, value in enumerate((_DATA + 8 * (control + 1), begin, end, chunk)):
            emulator.reg_write(arm.UC_ARM64_REG_X0 + number, value % (1 << 64))
        emulator.reg_write(arm.UC_ARM64_REG_SP, _STACK + _STACK_BYTES)
        emulator.reg_write(arm.UC_ARM64_REG_LR, _END)
        self.instructions, self.blocks = 0, {}
        try:
            emulator.emu_start(self._base + self._image.symbols[symbol], _END)
        except UcError as error:
            at = emulator.reg_read(arm.UC_ARM64_REG_PC) - self._base
            raise RuntimeError(f"kernel '{symbol}' failed at offset {at} of its image: {error}") from error
        for word, place in zip(words, places, strict=True):
            if isinstance(word, np.ndarray) and word.flags.writeable:
                written = np.frombuffer(bytes(emulator.mem_read(place, word.nbytes)), word.dtype)
                word[...] = written.reshape(word.shape)

    def _count(self, emulator: Uc, address: int, size: int, data: object) -> None:
        self.instructions += size // 4
        key = address - self._base, size
        self.blocks[key] = self.blocks.get(key, 0) + 1

    @staticmethod
    def _calling(act: Function) -> Callable[[Uc, int, int, object], None]:
        def hook(emulator: Uc, address: int, size: int, data: object) -> None:
            act(emulator)

        return hook


def of_doubles(function: Callable[[float], float]) -> Function:
    """A C function ``double (double)``."""

    def act(emulator: Uc) -> None:
        (x,) = struct.unpack("<d", struct.pack("<Q", emulator.reg_read(arm.UC_ARM64_REG_D0)))
        emulator.reg_write(arm.UC_ARM64_REG_D0, struct.unpack("<Q", struct.pack("<d", function(x)))[0])

    return act
