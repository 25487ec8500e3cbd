"""Relocatable ELF files of 32 and 64 bits as sections, symbols and relocations, as far as `Relocatable` keeps them.

What unwinding, debuggers and LLVM's own linker read is left out: kernels throw nothing.

Source: the ELF specification (gabi 4.1), chapter "Object Files".
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

SHT_PROGBITS, SHT_SYMTAB, SHT_STRTAB, SHT_RELA, SHT_NOBITS, SHT_REL = 1, 2, 3, 4, 8, 9
SHF_WRITE, SHF_ALLOC, SHF_EXECINSTR, SHF_INFO_LINK = 1, 2, 4, 64
STB_LOCAL, STB_GLOBAL, STB_WEAK = 0, 1, 2
STT_NOTYPE, STT_OBJECT, STT_SECTION, STT_FILE = 0, 1, 3, 4
STV_DEFAULT = 0
SHN_UNDEF, SHN_LORESERVE, SHN_ABS, SHN_COMMON = 0, 0xFF00, 0xFFF1, 0xFFF2
ET_REL = 1
EM_ARM, EM_RISCV = 40, 243
ATTRIBUTE_KINDS = {EM_ARM: 0x70000003, EM_RISCV: 0x70000003}
LARGEST_ALIGNMENT = 1 << 16
"""Of a section, in bytes."""

_UNWINDING = (".eh_frame", ".ARM.exidx", ".ARM.extab")


class ElfForm(NamedTuple):
    """How the tables of a class of ELF files are laid out."""

    header: struct.Struct
    section: struct.Struct
    symbol: struct.Struct
    rel: struct.Struct
    rela: struct.Struct
    alignment: int


FORMS = {
    1: ElfForm(
        struct.Struct("<16sHHIIIIIHHHHHH"),
        struct.Struct("<IIIIIIIIII"),
        struct.Struct("<IIIBBH"),
        struct.Struct("<II"),
        struct.Struct("<IIi"),
        4,
    ),
    2: ElfForm(
        struct.Struct("<16sHHIQQQIHHHHHH"),
        struct.Struct("<IIQQQQIIQQ"),
        struct.Struct("<IBBHQQ"),
        struct.Struct("<QQ"),
        struct.Struct("<QQq"),
        8,
    ),
}


class ElfSymbol(NamedTuple):
    """A row of a symbol table, in one form for both classes."""

    name: str
    binding: int
    kind: int
    visibility: int
    section: int
    value: int
    size: int


@dataclass(slots=True, eq=False)
class ElfSection:
    """A section of an object; ``relocations`` are its rows: offset, kind, number of the symbol, addend or None."""

    name: str
    kind: int
    flags: int
    alignment: int
    entry_bytes: int
    size: int
    content: Sequence[bytes | memoryview]
    relocations: list[tuple[int, int, int, int | None]] = field(default_factory=list)
    number: int = 0
    owner: str = ""


@dataclass(slots=True, eq=False)
class ElfObject:
    """An object file; ``form`` is its class: 1 of 32 bits, 2 of 64; ``attributes`` are the build attributes.

    ``sections`` are those kept, by number.
    """

    form: int
    machine: int
    flags: int
    sections: dict[int, ElfSection]
    symbols: list[ElfSymbol]
    attributes: bytes


def imports_of(image: bytes) -> frozenset[str]:
    """The symbols that an object wants from others.

    Raises:
        ValueError: it is damaged.
    """
    return frozenset(one.name for one in read_elf("", image).symbols if one.section == SHN_UNDEF and one.name)


def read_elf(name: str, image: bytes) -> ElfObject:
    if image[:4] != b"\x7fELF" or len(image) < 52 or image[4] not in FORMS or image[5] != 1:
        raise ValueError(f"the object '{name}' is no little-endian ELF file")
    form = FORMS[image[4]]
    try:
        (_, kind, machine, _, _, _, table, flags, _, _, _, row_bytes, count, names_at) = form.header.unpack_from(image)
        if kind != ET_REL or row_bytes != form.section.size or names_at >= count:
            raise ValueError(f"the object '{name}' has a damaged header")
        rows = [form.section.unpack_from(image, table + i * row_bytes) for i in range(count)]
        names = _content(image, rows[names_at])
        sections: dict[int, ElfSection] = {}
        attributes = b""
        symbols: list[ElfSymbol] = []
        for number, row in enumerate(rows):
            text, section_kind, section_flags = _text(names, row[0]), row[1], row[2]
            if section_kind == SHT_SYMTAB:
                symbols = _symbols(image, row, _content(image, rows[row[6]]), image[4])
            elif section_kind == ATTRIBUTE_KINDS.get(machine) and text.endswith(".attributes"):
                attributes = _content(image, row)
            elif _is_kept(text, section_kind, section_flags, row[5]):
                if row[8] > LARGEST_ALIGNMENT:
                    raise ValueError(f"the object '{name}' has a section at an alignment of {row[8]}")
                content = b"" if section_kind == SHT_NOBITS else _content(image, row)
                sections[number] = ElfSection(text, section_kind, section_flags, row[8], row[9], row[5], [content])
        for row in rows:
            if row[1] in (SHT_REL, SHT_RELA) and row[7] in sections:
                sections[row[7]].relocations += _relocations(_content(image, row), row[1], image[4], len(symbols))
    except (struct.error, IndexError) as error:
        raise ValueError(f"the object '{name}' is damaged: {error}") from error
    return ElfObject(image[4], machine, flags, sections, symbols, attributes)


def _is_kept(name: str, kind: int, flags: int, size: int) -> bool:
    is_memory = flags & SHF_ALLOC and kind not in (SHT_REL, SHT_RELA) and kind < 0x60000000
    return bool(is_memory and size and not name.startswith(_UNWINDING))


def _symbols(image: bytes, row: tuple[int, ...], names: bytes, form: int) -> list[ElfSymbol]:
    found = []
    for fields in FORMS[form].symbol.iter_unpack(_content(image, row)):
        if form == 1:
            name, value, size, info, other, section = fields
        else:
            name, info, other, section, value, size = fields
        found.append(ElfSymbol(_text(names, name), info >> 4, info & 15, other & 3, section, value, size))
    return found


def _relocations(content: bytes, kind: int, form: int, symbols: int) -> list[tuple[int, int, int, int | None]]:
    found: list[tuple[int, int, int, int | None]] = []
    layout = FORMS[form].rela if kind == SHT_RELA else FORMS[form].rel
    for offset, info, *addend in layout.iter_unpack(content):
        number, what = (info >> 8, info & 0xFF) if form == 1 else (info >> 32, info & 0xFFFFFFFF)
        if number >= symbols:
            raise ValueError("a relocation names a symbol that does not exist")
        found.append((offset, what, number, addend[0] if addend else None))
    return found


def _content(image: bytes, row: tuple[int, ...]) -> bytes:
    offset, size = row[4], row[5]
    if offset + size > len(image):
        raise ValueError("a section lies outside its file")
    return image[offset : offset + size]


def _text(names: bytes, at: int) -> str:
    end = names.find(b"\0", at)
    if at > len(names) or end < 0:
        raise ValueError("a name lies outside its table")
    return names[at:end].decode()
