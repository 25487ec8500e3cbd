"""Relocatable ELF files, as far as kernels are concerned: sections, symbols, and what is filled in at loading."""

from __future__ import annotations

import struct
from typing import NamedTuple

_SECTION = struct.Struct("<IIQQQQIIQQ")
_SECTION_32 = struct.Struct("<IIIIIIIIII")
_SYMBOL = struct.Struct("<IBBHQQ")
_SYMBOL_32 = struct.Struct("<IIIBBH")
_RELOCATION = struct.Struct("<QQq")
_SHT_SYMTAB = 2
_SHT_RELA = 4
_STB_LOCAL = 0

SHN_UNDEF = 0


class ObjectSymbols(NamedTuple):
    """Names, without the local ones."""

    defined: frozenset[str]
    undefined: frozenset[str]


class Section(NamedTuple):
    """A row of the section table (``sh_`` fields of the ELF specification)."""

    name: str
    kind: int
    flags: int
    offset: int
    size: int
    link: int
    info: int
    alignment: int


class Symbol(NamedTuple):
    """A row of the symbol table; ``section`` is SHN_UNDEF for what comes from outside."""

    name: str
    is_local: bool
    section: int
    value: int


class Relocation(NamedTuple):
    """A place in section ``section`` that depends on where a symbol ends up."""

    section: int
    offset: int
    kind: int
    symbol: int
    addend: int


class ObjectFile(NamedTuple):
    """Everything of an object file that a loader looks at."""

    machine: int
    sections: list[Section]
    symbols: list[Symbol]
    relocations: list[Relocation]


def is_elf(image: bytes) -> bool:
    return image[:4] == b"\x7fELF"


def read_symbols(image: bytes) -> ObjectSymbols:
    """The global symbols of a little-endian relocatable ELF file, of 64 or of 32 bits.

    Raises:
        ValueError: the image is not such a file, or its tables point outside it.
    """
    symbols = _symbols(image, _sections(image, may_be_narrow=True))
    outer = [symbol for symbol in symbols if not symbol.is_local]
    return ObjectSymbols(
        frozenset(symbol.name for symbol in outer if symbol.section != SHN_UNDEF),
        frozenset(symbol.name for symbol in outer if symbol.section == SHN_UNDEF),
    )


def read_object(image: bytes) -> ObjectFile:
    """Sections, symbols and relocations of a 64-bit little-endian relocatable ELF file.

    Raises:
        ValueError: the image is not such a file, or its tables point outside it.
    """
    sections = _sections(image)
    (machine,) = struct.unpack_from("<H", image, 18)
    symbols = _symbols(image, sections)
    relocations = []
    for section in sections:
        if section.kind != _SHT_RELA:
            continue
        if section.size % _RELOCATION.size or section.info >= len(sections):
            raise ValueError("an ELF relocation table is damaged")
        for offset, info, addend in _RELOCATION.iter_unpack(_content(image, section)):
            if info >> 32 >= len(symbols):
                raise ValueError("an ELF relocation names a symbol that does not exist")
            relocations.append(Relocation(section.info, offset, info & 0xFFFFFFFF, info >> 32, addend))
    return ObjectFile(machine, sections, symbols, relocations)


def _sections(image: bytes, *, may_be_narrow: bool = False) -> list[Section]:
    classes = (1, 2) if may_be_narrow else (2,)
    if not is_elf(image) or len(image) < 64 or image[4] not in classes or image[5] != 1:
        raise ValueError(f"not a {'' if may_be_narrow else '64-bit '}little-endian ELF file")
    is_narrow = image[4] == 1
    section = _SECTION_32 if is_narrow else _SECTION
    (table,) = struct.unpack_from("<I" if is_narrow else "<Q", image, 32 if is_narrow else 40)
    row_size, count, names_section = struct.unpack_from("<HHH", image, 46 if is_narrow else 58)
    if row_size != section.size or table + count * row_size > len(image) or (count and names_section >= count):
        raise ValueError("the ELF section table is damaged")
    rows = [section.unpack_from(image, table + i * row_size) for i in range(count)]
    names = image[rows[names_section][4] : rows[names_section][4] + rows[names_section][5]] if rows else b""
    return [
        Section(_name(names, name), kind, flags, offset, size, link, info, alignment)
        for name, kind, flags, _, offset, size, link, info, alignment, _ in rows
    ]


def _symbols(image: bytes, sections: list[Section]) -> list[Symbol]:
    for section in sections:
        if section.kind == _SHT_SYMTAB:  # there is at most one
            row = _SYMBOL_32 if image[4] == 1 else _SYMBOL
            if section.size % row.size or section.link >= len(sections):
                raise ValueError("the ELF symbol table is damaged")
            names = _content(image, sections[section.link])
            if not names.endswith(b"\0"):
                raise ValueError("the ELF string table is damaged")
            content = row.iter_unpack(_content(image, section))
            if image[4] == 1:
                content = ((name, info, other, place, value, size) for name, value, size, info, other, place in content)
            return [
                Symbol(_name(names, name), info >> 4 == _STB_LOCAL, place, value)
                for name, info, _, place, value, _ in content
            ]
    return []


def _content(image: bytes, section: Section) -> bytes:
    if section.offset + section.size > len(image):
        raise ValueError("an ELF section lies outside its file")
    return image[section.offset : section.offset + section.size]


def _name(names: bytes, at: int) -> str:
    end = names.find(b"\0", at)
    if at >= len(names) or end < 0:
        raise ValueError("an ELF name lies outside its table")
    return names[at:end].decode()
