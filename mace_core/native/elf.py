"""Relocatable ELF files, as far as kernels are concerned: sections, symbols, and what is filled in at loading."""

from __future__ import annotations

import struct
from typing import NamedTuple

_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
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
    """The global symbols of a 64-bit little-endian relocatable ELF file.

    Raises:
        ValueError: the image is not such a file, or its tables point outside it.
    """
    symbols = _symbols(image, _sections(image))
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


def _sections(image: bytes) -> list[Section]:
    if not is_elf(image) or len(image) < 64 or image[4] != 2 or image[5] != 1:
        raise ValueError("not a 64-bit little-endian ELF file")
    (table,) = struct.unpack_from("<Q", image, 40)
    row_size, count, names_section = struct.unpack_from("<HHH", image, 58)
    if row_size != _SECTION.size or table + count * row_size > len(image) or (count and names_section >= count):
        raise ValueError("the ELF section table is damaged")
    rows = [_SECTION.unpack_from(image, table + i * row_size) for i in range(count)]
    names = image[rows[names_section][4] : rows[names_section][4] + rows[names_section][5]] if rows else b""
    return [
        Section(_name(names, name), kind, flags, offset, size, link, info, alignment)
        for name, kind, flags, _, offset, size, link, info, alignment, _ in rows
    ]


def _symbols(image: bytes, sections: list[Section]) -> list[Symbol]:
    for section in sections:
        if section.kind == _SHT_SYMTAB:  # there is at most one
            if section.size % _SYMBOL.size or section.link >= len(sections):
                raise ValueError("the ELF symbol table is damaged")
            names = _content(image, sections[section.link])
            if not names.endswith(b"\0"):
                raise ValueError("the ELF string table is damaged")
            return [
                Symbol(_name(names, name), info >> 4 == _STB_LOCAL, place, value)
                for name, info, _, place, value, _ in _SYMBOL.iter_unpack(_content(image, section))
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
