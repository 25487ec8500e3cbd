"""Plans of aarch64 in a process of x86-64: an emulated processor that sees this process's memory where it is.

It runs kernels and the runner that walks a plan.  So whoever makes a plan for another target can run it here, with the
arrays that are here.  The emulator is unicorn; what it does not know of ARMv8.6 (products of matrices of bytes,
bfloat16) is computed here, an instruction at a time.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import mmap
import struct
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from unicorn import (
    UC_ARCH_ARM64,
    UC_HOOK_CODE,
    UC_HOOK_INTR,
    UC_HOOK_MEM_UNMAPPED,
    UC_MODE_ARM,
    UC_PROT_ALL,
    UC_PROT_READ,
    Uc,
    UcError,
)
from unicorn import arm64_const as arm

from mace_core.native.runner_ir import RUNNER
from mace_core.native.source import KernelSource
from mace_core.native.target import Target
from mace_testing.emulated import link_for_arm
from mace_testing.emulated_instructions import execute

_STACK_BYTES = 1 << 20
_RETURN = struct.pack("<I", 0xD65F03C0)
_FLOATING_POINT_ON = 0x300000
_UNDEFINED_INSTRUCTION = 1

_OF_TWO = ("atan2", "copysign", "fdim", "fmax", "fmin", "fmod", "hypot", "nextafter", "pow", "remainder")


class ArmProcess:
    """An emulated processor with kernels for ``target``, in this process's memory."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self._emulator = emulator = Uc(UC_ARCH_ARM64, UC_MODE_ARM)
        emulator.ctl_set_cpu_model(arm.UC_CPU_ARM64_MAX)
        emulator.reg_write(arm.UC_ARM64_REG_CPACR_EL1, _FLOATING_POINT_ON)
        emulator.hook_add(UC_HOOK_MEM_UNMAPPED, self._map)
        emulator.hook_add(UC_HOOK_INTR, self._interrupt)
        # code and stack are this process's memory too, so that functions of its C library take their addresses
        self._kept: list[mmap.mmap] = []
        self._stack = self._own_memory(bytes(_STACK_BYTES))
        self._end = self._own_memory(_RETURN)
        self._stubs: dict[str, int] = {}
        self._addresses: dict[str, int] = {}
        self._mapped: list[tuple[int, int]] = []
        self._failure: Exception | None = None

    def load(self, sources: Sequence[KernelSource]) -> dict[str, int]:
        """Addresses of kernels, good on the emulated processor alone."""
        wanted = {source.symbol: source for source in sources}
        missing = [source for symbol, source in wanted.items() if symbol not in self._addresses]
        if missing:
            image = link_for_arm(missing, self.target)
            content = bytearray(image.content)
            for name, offset in image.imports.items():
                struct.pack_into("<Q", content, offset, self._stub(name))
            base = self._own_memory(bytes(content))
            self._addresses.update({symbol: base + offset for symbol, offset in image.symbols.items()})
        return self.addresses(wanted)

    def addresses(self, symbols: Iterable[str]) -> dict[str, int]:
        """Addresses of kernels that `load` has loaded."""
        return {symbol: self._addresses[symbol] for symbol in symbols}

    def run_plan(self, control: int, start: int) -> int:
        """What `mace_core.native.runner_ir` says of ``mace_run_plan``."""
        answer = self.call(self.load([RUNNER])[RUNNER.symbol], control, start)
        return answer - (1 << 64) if answer >> 63 else answer

    def call(self, address: int, *arguments: int) -> int:
        """Call a function of integers and addresses.

        Raises:
            RuntimeError: it did what no kernel may, such as reading where nothing is.
        """
        emulator = self._emulator
        for number, value in enumerate(arguments):
            emulator.reg_write(arm.UC_ARM64_REG_X0 + number, value % (1 << 64))
        emulator.reg_write(arm.UC_ARM64_REG_SP, self._stack + _STACK_BYTES)
        emulator.reg_write(arm.UC_ARM64_REG_LR, self._end)
        self._failure = None
        try:
            emulator.emu_start(address, self._end)
        except UcError as error:
            at = emulator.reg_read(arm.UC_ARM64_REG_PC)
            raise RuntimeError(f"emulated code failed at 0x{at:x}, {self._near(at)}: {error}") from error
        finally:
            # this process's memory may be elsewhere the next time
            for start, size in self._mapped:
                emulator.mem_unmap(start, size)
            self._mapped.clear()
        if self._failure is not None:
            raise RuntimeError(f"emulated code failed: {self._failure}") from self._failure
        return int(emulator.reg_read(arm.UC_ARM64_REG_X0))

    def _near(self, at: int) -> str:
        before = [(address, symbol) for symbol, address in self._addresses.items() if address <= at]
        return f"in or behind kernel '{max(before)[1]}'" if before else "before all kernels"

    def _own_memory(self, content: bytes) -> int:
        """The address of a copy that begins with a page, good until the process ends."""
        memory = mmap.mmap(-1, len(content))
        memory[:] = content
        self._kept.append(memory)
        return ctypes.addressof(ctypes.c_char.from_buffer(memory))

    def _map(self, emulator: Uc, access: int, address: int, size: int, value: int, data: object) -> bool:
        """Show the processor the stretch of this process's memory that it asks for."""
        for line in Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines():
            span, rights, *_ = line.split()
            first, last = (int(part, 16) for part in span.split("-"))
            if first <= address < last and "r" in rights:
                allowed = UC_PROT_ALL if "w" in rights else UC_PROT_READ
                emulator.mem_map_ptr(first, last - first, allowed, ctypes.c_void_p(first))
                self._mapped.append((first, last - first))
                return True
        return False

    def _interrupt(self, emulator: Uc, number: int, data: object) -> None:
        at = emulator.reg_read(arm.UC_ARM64_REG_PC)
        try:
            if number != _UNDEFINED_INSTRUCTION:
                raise ValueError(f"interrupt {number} at 0x{at:x}, {self._near(at)}")
            (code,) = struct.unpack("<I", emulator.mem_read(at, 4))
            execute(code, self._read, self._write)
        except ValueError as error:
            self._failure = error
            emulator.emu_stop()
        emulator.reg_write(arm.UC_ARM64_REG_PC, at + 4)

    def _read(self, register: int) -> npt.NDArray[np.uint8]:
        value = int(self._emulator.reg_read(arm.UC_ARM64_REG_Q0 + register))
        return np.frombuffer(value.to_bytes(16, "little"), np.uint8)

    def _write(self, register: int, value: npt.NDArray[np.uint8]) -> None:
        self._emulator.reg_write(arm.UC_ARM64_REG_Q0 + register, int.from_bytes(value.tobytes(), "little"))

    # --- functions of the C library ---------------------------------------------------------------------------------

    def _stub(self, name: str) -> int:
        if name not in self._stubs:
            self._stubs[name] = place = self._own_memory(_RETURN)
            act = self._function(name)
            self._emulator.hook_add(UC_HOOK_CODE, lambda *_: act(), begin=place, end=place)
        return self._stubs[name]

    def _function(self, name: str) -> Callable[[], None]:
        library = ctypes.CDLL(ctypes.util.find_library("m" if name not in ("sched_yield",) else "c"))
        emulator = self._emulator
        integers = {"memcpy": 3, "memmove": 3, "memset": 3, "memcmp": 3, "clock_gettime": 2, "sched_yield": 0}
        if name in ("pthread_self", "syscall"):

            def alone() -> None:
                emulator.reg_write(arm.UC_ARM64_REG_X0, 0)

            return alone
        if name in integers:
            function = getattr(ctypes.CDLL(None), name)
            function.argtypes, function.restype = [ctypes.c_size_t] * integers[name], ctypes.c_size_t

            def of_integers() -> None:
                given = [emulator.reg_read(arm.UC_ARM64_REG_X0 + i) for i in range(integers[name])]
                emulator.reg_write(arm.UC_ARM64_REG_X0, function(*given))

            return of_integers
        is_single = name.endswith("f") and name != "erf"
        kind, form, width = (ctypes.c_float, "<f", 4) if is_single else (ctypes.c_double, "<d", 8)
        count = 2 if name.removesuffix("f") in _OF_TWO or name in _OF_TWO else 1
        function = getattr(library, name)
        function.argtypes, function.restype = [kind] * count, kind

        def of_floats() -> None:
            given = [struct.unpack(form, self._read(i)[:width].tobytes())[0] for i in range(count)]
            result = np.zeros(16, np.uint8)
            result[:width] = np.frombuffer(struct.pack(form, function(*given)), np.uint8)
            self._write(0, result)

        return of_floats
