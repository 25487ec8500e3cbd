"""The symbol table of an ELF object file: what it defines and what it needs from outside."""

from __future__ import annotations

import struct
from dataclasses import dataclass

_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_SHT_SYMTAB = 2
_SHN_UNDEF = 0
_STB_LOCAL = 0


@dataclass(frozen=True, slots=True)
class ObjectSymbols:
    """Names, without the local ones."""

    defined: frozenset[str]
    undefined: frozenset[str]


def is_elf(image: bytes) -> bool:
    return image[:4] == b"\x7fELF"


def read_symbols(image: bytes) -> ObjectSymbols:
    """The global symbols of a 64-bit little-endian relocatable ELF file.

    Raises:
        ValueError: the image is not such a file, or its tables point outside it.
    """
    if not is_elf(image) or len(image) < 64 or image[4] != 2 or image[5] != 1:
        raise ValueError("not a 64-bit little-endian ELF file")
    (section_offset,) = struct.unpack_from("<Q", image, 40)
    section_size, section_count = struct.unpack_from("<HH", image, 58)
    if section_size != _SECTION.size or section_offset + section_count * section_size > len(image):
        raise ValueError("the ELF section table is damaged")
    sections = [_SECTION.unpack_from(image, section_offset + i * section_size) for i in range(section_count)]
    defined: set[str] = set()
    undefined: set[str] = set()
    for _, kind, _, _, offset, size, link, _, _, _ in sections:
        if kind != _SHT_SYMTAB:
            continue
        if offset + size > len(image) or size % _SYMBOL.size or link >= len(sections):
            raise ValueError("the ELF symbol table is damaged")
        names_offset, names_size = sections[link][4], sections[link][5]
        names = image[names_offset : names_offset + names_size]
        if len(names) != names_size or not names.endswith(b"\0"):
            raise ValueError("the ELF string table is damaged")
        for name_at, info, _, section, _, _ in _SYMBOL.iter_unpack(image[offset : offset + size]):
            if info >> 4 == _STB_LOCAL:
                continue
            if name_at >= names_size:
                raise ValueError("an ELF symbol name lies outside its table")
            name = names[name_at : names.index(b"\0", name_at)].decode()
            (undefined if section == _SHN_UNDEF else defined).add(name)
    return ObjectSymbols(frozenset(defined), frozenset(undefined))
