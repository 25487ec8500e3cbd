"""What two processors do at load time to code whose place was not known before: distances into instructions.

Sources: System V ABI, AMD64 supplement, section 4.4; ELF for the Arm 64-bit Architecture (AAELF64), section 5.7.
"""

from __future__ import annotations

import platform
import struct
from types import MappingProxyType
from typing import Protocol

_WORD = struct.Struct("<Q")
_DISTANCE = struct.Struct("<i")
_INSTRUCTION = struct.Struct("<I")

PAGE_BYTES = 4096
"""Images begin at multiples of this: aarch64 addresses in pages of 4096 bytes, whatever the system's pages are."""


class Processor(Protocol):
    """How linked code of one architecture is made.

    Attributes:
        machine: its number in an ELF file.
        calls: kinds of relocations that may lead to a function from outside, by way of `jump`.
        loads: kinds that load the address of a symbol from memory.
        jump: instructions that go to the address stored right behind them.
    """

    machine: int
    calls: frozenset[int]
    loads: frozenset[int]
    jump: bytes

    def width(self, kind: int) -> int:
        """Bytes that a relocation of this kind changes; 0 if the kind is not known here."""

    def fill(self, content: bytearray, place: int, kind: int, target: int, *, is_stored: bool) -> bool:
        """Make what is at ``place`` refer to ``target``; False where that cannot be.

        Args:
            is_stored: for `loads`: ``target`` is where the address is stored, not the address itself.
        """


class _X86:
    machine = 62
    _PC32, _PLT32 = 2, 4
    calls = frozenset((_PLT32,))
    loads = frozenset[int]()
    jump = bytes.fromhex("ff2500000000")  # jmp *(%rip)

    def width(self, kind: int) -> int:
        return _DISTANCE.size if kind in (self._PC32, self._PLT32) else 0

    def fill(self, content: bytearray, place: int, kind: int, target: int, *, is_stored: bool) -> bool:
        return _store_distance(content, place, target)


class _Arm:
    machine = 183
    # R_AARCH64_…: pages and what is left, for addresses and for loads and stores of 1 to 16 bytes
    _ADR_PREL_LO21, _ADR_PREL_PG_HI21, _ADD_ABS_LO12_NC = 274, 275, 277
    _LDST_ABS_LO12_NC = MappingProxyType({278: 0, 284: 1, 285: 2, 286: 3, 299: 4})
    _JUMP26, _CALL26 = 282, 283
    _ADR_GOT_PAGE, _LD64_GOT_LO12_NC = 311, 312
    _PREL64, _PREL32 = 260, 261
    calls = frozenset((_JUMP26, _CALL26))
    loads = frozenset((_ADR_GOT_PAGE, _LD64_GOT_LO12_NC))
    jump = struct.pack("<II", 0x58000050, 0xD61F0200)  # ldr x16, 8 bytes on; br x16
    _KINDS = frozenset((_ADR_PREL_LO21, _ADR_PREL_PG_HI21, _ADD_ABS_LO12_NC, *_LDST_ABS_LO12_NC, *calls, *loads))

    _ADD_IMMEDIATE = 0x91000000
    _REGISTERS = 0x3FF
    """Of an instruction with two: where its operand and its result are."""

    def width(self, kind: int) -> int:
        if kind in self._KINDS:
            return _INSTRUCTION.size
        return {self._PREL64: _WORD.size, self._PREL32: _DISTANCE.size}.get(kind, 0)

    def fill(self, content: bytearray, place: int, kind: int, target: int, *, is_stored: bool) -> bool:
        if kind == self._PREL32:
            return _store_distance(content, place, target)
        if kind == self._PREL64:
            _WORD.pack_into(content, place, (target - place) % (1 << 64))
            return True
        (code,) = _INSTRUCTION.unpack_from(content, place)
        changed = self._instruction(code, place, kind, target, is_stored=is_stored)
        if changed is None or place % _INSTRUCTION.size:
            return False
        _INSTRUCTION.pack_into(content, place, changed)
        return True

    def _instruction(self, code: int, place: int, kind: int, target: int, *, is_stored: bool) -> int | None:
        if kind in self.calls:
            return _field(code, target - place, unit=4, bits=26, at=0)
        if kind == self._ADR_PREL_LO21:
            return _split_field(code, target - place)
        low = target % PAGE_BYTES
        if kind in (self._ADR_PREL_PG_HI21, self._ADR_GOT_PAGE):
            return _split_field(code, target // PAGE_BYTES - place // PAGE_BYTES)
        if kind == self._LD64_GOT_LO12_NC and not is_stored:
            # the symbol is near: its address is computed, not loaded
            code, kind = self._ADD_IMMEDIATE | code & self._REGISTERS, self._ADD_ABS_LO12_NC
        if kind == self._ADD_ABS_LO12_NC:
            return code & ~(0xFFF << 10) | low << 10
        unit = 1 << self._LDST_ABS_LO12_NC.get(kind, 3)
        return None if low % unit else code & ~(0xFFF << 10) | low // unit << 10


def _store_distance(content: bytearray, place: int, target: int) -> bool:
    """A signed distance of 32 bits; False if it is longer."""
    if not -(1 << 31) <= target - place < 1 << 31:
        return False
    _DISTANCE.pack_into(content, place, target - place)
    return True


def _field(code: int, value: int, *, unit: int, bits: int, at: int) -> int | None:
    """``code`` with a signed number of units in it; None if it has no room for that."""
    whole, rest = divmod(value, unit)
    if rest or not -(1 << bits - 1) <= whole < 1 << bits - 1:
        return None
    mask = (1 << bits) - 1
    return code & ~(mask << at) | (whole & mask) << at


def _split_field(code: int, value: int) -> int | None:
    """As `_field` of 21 bits, for adr and adrp: the lowest two bits are elsewhere."""
    high = _field(code, value >> 2, unit=1, bits=19, at=5)
    return None if high is None else high & ~(3 << 29) | (value & 3) << 29


_PROCESSORS: dict[str, Processor] = {"x86_64": _X86(), "amd64": _X86(), "aarch64": _Arm(), "arm64": _Arm()}


def processor_of(machine: str = "") -> Processor | None:
    """How code of an architecture is linked; None: not known here.

    Args:
        machine: "x86_64", "aarch64"; "": of this process.
    """
    return _PROCESSORS.get((machine or platform.machine()).lower())
