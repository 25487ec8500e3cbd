"""Kernels laid out as one block of code, which a process can use without LLVM.

LLVM's own loader does the same and more; but importing llvmlite takes several times as long as everything else that a
warm start does.  What generated kernels consist of is little: code, constants, and distances between the two.  Whatever
else an object holds, and any other processor or format than ELF of x86-64 and aarch64, is left to LLVM (`link_image`
answers None).
"""

from __future__ import annotations

import ctypes
import mmap
import struct
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from mace_core.native import elf
from mace_core.native.relocations import PAGE_BYTES, Processor, processor_of

_SHF_WRITE, _SHF_ALLOC, _SHF_TLS = 1, 2, 0x400
_SHT_PROGBITS, _SHT_X86_64_UNWIND = 1, 0x70000001

_CODE_ALIGNMENT = 64
_WORD = struct.Struct("<Q")


class CodeImage(NamedTuple):
    """Linked code, good at any address.

    Attributes:
        content: code and constants.
        symbols: byte offset of each kernel.
        imports: byte offset at which the address of each function from outside is to be stored.
    """

    content: bytes
    symbols: dict[str, int]
    imports: dict[str, int]


def link_image(objects: Iterable[bytes], machine: str = "") -> CodeImage | None:
    """One image of many objects; None if one of them holds what only LLVM's loader knows how to load.

    Args:
        machine: the architecture that all have to be of, as `processor_of` takes it; by default this process's.

    Raises:
        ValueError: an object is damaged.
    """
    processor = processor_of(machine)
    if processor is None:
        return None
    linker = _Linker(processor)
    for image in objects:
        if not elf.is_elf(image) or not linker.add(image, elf.read_object(image)):
            return None
    return CodeImage(bytes(linker.content), linker.symbols, linker.imports)


def can_load_images() -> bool:
    """Whether this process can make memory executable the way `load_image` does it."""
    return hasattr(mmap, "MAP_ANONYMOUS") and hasattr(mmap, "PROT_WRITE")


def load_image(image: CodeImage, functions: Mapping[str, int], clear_cache: int | None = None) -> dict[str, int]:
    """The address of each kernel; the code stays in memory until the process ends.

    Args:
        image: what to load.
        functions: the addresses of its imports.
        clear_cache: where the compiler's function is that tells the instruction cache of new code, if there is one.
            Linux does so itself when it makes pages executable; other systems may not.

    Raises:
        OSError: the system does not let this process run code that it has made.
    """
    size = max(len(image.content), 1)
    # mapped pages may never be writable and executable at once
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    memory[: len(image.content)] = image.content
    for name, offset in image.imports.items():
        _WORD.pack_into(memory, offset, functions[name])
    start = ctypes.c_char.from_buffer(memory)
    address = ctypes.addressof(start)
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    protect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    if protect(address, size, mmap.PROT_READ | mmap.PROT_EXEC):
        number = ctypes.get_errno()
        raise OSError(number, "memory cannot be made executable")
    if clear_cache is not None:
        ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)(clear_cache)(address, address + size)
    # for ever: unloading code that a daemon thread may still be running would crash the process at its end
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(start))
    return {name: address + offset for name, offset in image.symbols.items()}


class _Linker:
    """The image while it grows."""

    def __init__(self, processor: Processor) -> None:
        self._processor = processor
        self.content = bytearray()
        self.symbols: dict[str, int] = {}
        self.imports: dict[str, int] = {}
        self._jumps: dict[str, int] = {}

    def add(self, image: bytes, found: elf.ObjectFile) -> bool:
        """Append an object; False if that is not possible."""
        if found.machine != self._processor.machine:
            return False
        places = self._place(image, found)
        if places is None:
            return False
        for symbol in found.symbols:
            if not symbol.is_local and symbol.section in places:
                self.symbols[symbol.name] = places[symbol.section] + symbol.value
        return all(
            self._relocate(relocation, found.symbols[relocation.symbol], found.sections[relocation.section], places)
            for relocation in found.relocations
            if relocation.section in places
        )

    def _place(self, image: bytes, found: elf.ObjectFile) -> dict[int, int] | None:
        """Where each section that is needed at run time lies; None if there is one of a kind unknown here."""
        places: dict[int, int] = {}
        for number, section in enumerate(found.sections):
            if not section.flags & _SHF_ALLOC or not section.size:
                continue
            if section.kind == _SHT_X86_64_UNWIND or section.name == ".eh_frame":
                continue  # how to unwind the stack: kernels neither throw nor call what does
            if section.kind != _SHT_PROGBITS or section.flags & (_SHF_WRITE | _SHF_TLS):
                return None
            if section.alignment > PAGE_BYTES:
                return None
            if section.offset + section.size > len(image):
                raise ValueError("an ELF section lies outside its file")
            self._align(max(section.alignment, _CODE_ALIGNMENT))
            places[number] = len(self.content)
            self.content += image[section.offset : section.offset + section.size]
        return places

    def _relocate(
        self, relocation: elf.Relocation, symbol: elf.Symbol, section: elf.Section, places: dict[int, int]
    ) -> bool:
        """Make the place refer to its symbol; False if that is not possible."""
        kind, processor = relocation.kind, self._processor
        width = processor.width(kind)
        if not width or not 0 <= relocation.offset <= section.size - width:
            return False
        is_stored = False
        if symbol.section in places:
            target = places[symbol.section] + symbol.value
        elif symbol.section == elf.SHN_UNDEF and symbol.name and kind in processor.calls:
            target = self._jump_to(symbol.name)
        elif symbol.section == elf.SHN_UNDEF and symbol.name and kind in processor.loads and not relocation.addend:
            self._jump_to(symbol.name)
            target, is_stored = self.imports[symbol.name], True
        else:
            return False
        place = places[relocation.section] + relocation.offset
        return processor.fill(self.content, place, kind, target + relocation.addend, is_stored=is_stored)

    def _jump_to(self, name: str) -> int:
        """A jump to a function from outside, which may lie further away than a call reaches."""
        if name not in self._jumps:
            jump = self._processor.jump
            self._align(_WORD.size)
            self.content += bytes(-len(jump) % _WORD.size)
            self._jumps[name] = len(self.content)
            self.content += jump + bytes(_WORD.size)
            self.imports[name] = self._jumps[name] + len(jump)
        return self._jumps[name]

    def _align(self, alignment: int) -> None:
        self.content += bytes(-len(self.content) % alignment)
