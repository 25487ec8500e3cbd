"""Object files put together into one, as ``ld -r`` does, but for what only one part of a program needs to see.

Sections stay apart and as they are, so that relocations keep their offsets and addends: symbols are renumbered, and all
but the exported ones become local.  Works on 32-bit and 64-bit little-endian ELF files alike.

Source: the ELF specification (gabi 4.1), chapter "Object Files", and the ABI supplement of ARM for build attributes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import IO, NamedTuple

from mace_core.native.relocatable_parts import (
    ATTRIBUTE_KINDS,
    EM_ARM,
    ET_REL,
    FORMS,
    SHF_ALLOC,
    SHF_EXECINSTR,
    SHF_INFO_LINK,
    SHF_WRITE,
    SHN_LORESERVE,
    SHN_UNDEF,
    SHT_NOBITS,
    SHT_PROGBITS,
    SHT_REL,
    SHT_RELA,
    SHT_STRTAB,
    SHT_SYMTAB,
    STB_GLOBAL,
    STB_LOCAL,
    STT_FILE,
    STT_NOTYPE,
    STT_OBJECT,
    STT_SECTION,
    STV_DEFAULT,
    ElfObject,
    ElfSection,
    ElfSymbol,
    read_elf,
)

_TAG_ABI_VFP_ARGS, _COMPATIBLE_WITH_BOTH = 28, 3


class DataSection(NamedTuple):
    """Read-only memory that goes into the result as it is.

    Attributes:
        symbol: what code calls its beginning.
        parts: its content, one after the other.
        alignment: of its beginning.
    """

    symbol: str
    parts: Sequence[bytes | memoryview]
    alignment: int


class SectionSizes(NamedTuple):
    """Bytes of an object, by what they are.

    Attributes:
        code: of instructions.
        constants: that code reads, and tables.
        variables: that may be written.
        data: of the sections that were given as they are.
    """

    code: int
    constants: int
    variables: int
    data: int


class UnresolvedError(ValueError):
    """Objects do not fit together."""


class Relocatable:
    """One object file from several.

    Args:
        objects: by name, for messages.
        exports: the symbols that others may see.
        data: sections besides.

    Attributes:
        imports: the symbols that come from outside.

    Raises:
        ValueError: an object is damaged, or of another processor.
        UnresolvedError: two objects define one symbol, or an exported one is not there.
    """

    def __init__(self, objects: Mapping[str, bytes], exports: Iterable[str], data: Sequence[DataSection] = ()) -> None:
        self._objects = [read_elf(name, image) for name, image in objects.items()]
        first = self._objects[0]
        kinds = {(one.form, one.machine) for one in self._objects}
        if len(kinds) > 1:
            raise ValueError("the objects are for different processors")
        self._form, self._machine = first.form, first.machine
        self._flags = 0
        for one in self._objects:
            self._flags |= one.flags
        self._exports = frozenset(exports)
        self._sections: list[ElfSection] = []
        self._local: list[tuple[ElfSymbol, int]] = []  # and the number of the output's section
        self._global: list[tuple[ElfSymbol, int]] = []
        self._defined: dict[str, tuple[bool, int]] = {}  # name -> whether among the globals, and where
        self._undefined: dict[str, int] = {}
        for name, one in zip(objects, self._objects, strict=True):
            self._add_sections(name, one)
        data_sections = [self._add_data(section) for section in data]
        self._add_attributes(first)
        places: list[dict[int, tuple[bool, int]]] = [
            self._add_defined(name, one) for name, one in zip(objects, self._objects, strict=True)
        ]
        for place, one in zip(places, self._objects, strict=True):
            self._add_undefined(place, one)
        missing = sorted(self._exports - self._defined.keys())
        if missing:
            raise UnresolvedError(f"no object defines '{missing[0]}'")
        self._resolve(places)
        self.imports = frozenset(self._undefined)
        self.sizes = self._measure(set(map(id, data_sections)))

    # --- putting together -----------------------------------------------------------------------------------------

    def _add_sections(self, name: str, one: ElfObject) -> None:
        for section in one.sections.values():
            self._sections.append(section)
            section.number = len(self._sections)
            section.owner = name

    def _add_data(self, data: DataSection) -> ElfSection:
        size = sum(len(part) for part in data.parts)
        name = f".rodata.{data.symbol}"
        section = ElfSection(name, SHT_PROGBITS, SHF_ALLOC, data.alignment, 0, size, data.parts)
        self._sections.append(section)
        section.number = len(self._sections)
        symbol = ElfSymbol(data.symbol, STB_GLOBAL, STT_OBJECT, STV_DEFAULT, 1, 0, size)
        self._define(data.symbol, symbol, section.number)
        return section

    def _add_attributes(self, first: ElfObject) -> None:
        kind = ATTRIBUTE_KINDS.get(first.machine)
        if kind is None or not first.attributes:
            return
        name, content = ".riscv.attributes", first.attributes
        if first.machine == EM_ARM:
            name, content = ".ARM.attributes", _for_both_conventions(content)
        self._sections.append(ElfSection(name, kind, 0, 1, 0, len(content), [content]))
        self._sections[-1].number = len(self._sections)

    def _define(self, owner: str, symbol: ElfSymbol, section: int) -> tuple[bool, int]:
        if symbol.name in self._defined:
            raise UnresolvedError(f"'{symbol.name}' is defined twice, the second time by '{owner}'")
        is_global = symbol.name in self._exports
        table = self._global if is_global else self._local
        table.append((symbol._replace(binding=STB_GLOBAL if is_global else STB_LOCAL), section))
        place = is_global, len(table) - 1
        self._defined[symbol.name] = place
        return place

    def _add_defined(self, owner: str, one: ElfObject) -> dict[int, tuple[bool, int]]:
        """Where the symbols that an object defines are among those of the result, by their numbers."""
        places: dict[int, tuple[bool, int]] = {}
        used = {row[2] for section in one.sections.values() for row in section.relocations}
        for number, symbol in enumerate(one.symbols):
            if symbol.section == SHN_UNDEF or symbol.kind == STT_FILE:
                continue
            if symbol.section >= SHN_LORESERVE:
                if number in used or symbol.binding != STB_LOCAL:
                    raise ValueError(f"the object '{owner}' has a symbol of a kind that is not expected here")
                continue
            section = one.sections.get(symbol.section)
            if section is None:
                if number in used:
                    raise ValueError(f"the object '{owner}' refers to a section that is left out")
                continue
            if symbol.binding == STB_LOCAL:
                self._local.append((symbol, section.number))
                places[number] = False, len(self._local) - 1
            else:
                places[number] = self._define(owner, symbol, section.number)
        return places

    def _add_undefined(self, places: dict[int, tuple[bool, int]], one: ElfObject) -> None:
        for number in sorted({row[2] for section in one.sections.values() for row in section.relocations}):
            symbol = one.symbols[number] if number else None
            if symbol is None or number in places:
                continue
            found = self._defined.get(symbol.name)
            if found is None:
                index = self._undefined.get(symbol.name)
                if index is None:
                    self._global.append((ElfSymbol(symbol.name, STB_GLOBAL, STT_NOTYPE, STV_DEFAULT, 0, 0, 0), 0))
                    index = self._undefined[symbol.name] = len(self._global) - 1
                found = True, index
            places[number] = found

    def _resolve(self, places: Sequence[Mapping[int, tuple[bool, int]]]) -> None:
        first_global = 1 + len(self._local)
        for place, one in zip(places, self._objects, strict=True):
            numbers = {0: 0, **{n: (first_global if is_global else 1) + at for n, (is_global, at) in place.items()}}
            for section in one.sections.values():
                section.relocations = [(o, kind, numbers[s], addend) for o, kind, s, addend in section.relocations]

    def _measure(self, data: set[int]) -> SectionSizes:
        code = constants = variables = given = 0
        for section in self._sections:
            if id(section) in data:
                given += section.size
            elif section.flags & SHF_EXECINSTR:
                code += section.size
            elif section.flags & SHF_WRITE:
                variables += section.size
            elif section.flags & SHF_ALLOC:
                constants += section.size
        return SectionSizes(code, constants, variables, given)

    # --- writing --------------------------------------------------------------------------------------------------

    def write(self, file: IO[bytes]) -> int:
        """Write the object file; answers its size in bytes."""
        form = FORMS[self._form]
        out = _Writer(file)
        out.write(bytes(form.header.size))
        names, rows = _Strings(), []
        count = len(self._sections)
        with_relocations = [section for section in self._sections if section.relocations]
        symtab = 1 + count + len(with_relocations) + 1  # a note on the stack, see below
        for section in self._sections:
            at = out.align(max(section.alignment, 1))
            if section.kind != SHT_NOBITS:
                for part in section.content:
                    out.write(part)
            name = names.add(section.name)
            rows.append(
                (
                    name,
                    section.kind,
                    section.flags,
                    0,
                    at,
                    section.size,
                    0,
                    0,
                    max(section.alignment, 1),
                    section.entry_bytes,
                )
            )
        for section in with_relocations:
            is_rela = section.relocations[0][3] is not None
            layout = form.rela if is_rela else form.rel
            at = out.align(form.alignment)
            for offset, kind, number, addend in section.relocations:
                info = number << 8 | kind if self._form == 1 else number << 32 | kind
                out.write(layout.pack(offset, info) if addend is None else layout.pack(offset, info, addend))
            name = names.add((".rela" if is_rela else ".rel") + section.name)
            rows.append(
                (
                    name,
                    SHT_RELA if is_rela else SHT_REL,
                    SHF_INFO_LINK,
                    0,
                    at,
                    layout.size * len(section.relocations),
                    symtab,
                    section.number,
                    form.alignment,
                    layout.size,
                )
            )
        # without it, linkers make the stack executable
        rows.append((names.add(".note.GNU-stack"), SHT_PROGBITS, 0, 0, out.size, 0, 0, 0, 1, 0))
        texts = _Strings()
        at = out.align(form.alignment)
        out.write(bytes(form.symbol.size))
        for symbol, section_number in (*self._local, *self._global):
            out.write(self._symbol_row(symbol, section_number, texts))
        rows.append(
            (
                names.add(".symtab"),
                SHT_SYMTAB,
                0,
                0,
                at,
                out.size - at,
                symtab + 1,
                1 + len(self._local),
                form.alignment,
                form.symbol.size,
            )
        )
        at = out.size
        out.write(texts.content)
        rows.append((names.add(".strtab"), SHT_STRTAB, 0, 0, at, len(texts.content), 0, 0, 1, 0))
        name = names.add(".shstrtab")
        at = out.size
        out.write(names.content)
        rows.append((name, SHT_STRTAB, 0, 0, at, len(names.content), 0, 0, 1, 0))
        table = out.align(form.alignment)
        out.write(form.section.pack(*[0] * 10))
        for row in rows:
            out.write(form.section.pack(*row))
        total = out.size
        identity = b"\x7fELF" + bytes((self._form, 1, 1)) + bytes(9)
        file.seek(0)
        file.write(
            form.header.pack(
                identity,
                ET_REL,
                self._machine,
                1,
                0,
                0,
                table,
                self._flags,
                form.header.size,
                0,
                0,
                form.section.size,
                len(rows) + 1,
                len(rows),
            )
        )
        file.seek(total)
        return total

    def _symbol_row(self, symbol: ElfSymbol, section: int, texts: _Strings) -> bytes:
        name = 0 if symbol.kind == STT_SECTION else texts.add(symbol.name)
        info = symbol.binding << 4 | symbol.kind
        layout = FORMS[self._form].symbol
        if self._form == 1:
            return layout.pack(name, symbol.value, symbol.size, info, symbol.visibility, section)
        return layout.pack(name, info, symbol.visibility, section, symbol.value, symbol.size)


class _Writer:
    """Writes one thing behind the other."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.size = 0

    def write(self, content: bytes | memoryview) -> None:
        self._file.write(content)
        self.size += len(content)

    def align(self, alignment: int) -> int:
        self.write(bytes(-self.size % alignment))
        return self.size


class _Strings:
    """A string table."""

    def __init__(self) -> None:
        self._places: dict[str, int] = {"": 0}
        self._content = bytearray(1)

    def add(self, text: str) -> int:
        place = self._places.get(text)
        if place is None:
            place = self._places[text] = len(self._content)
            self._content += text.encode() + b"\0"
        return place

    @property
    def content(self) -> bytes:
        return bytes(self._content)


def _for_both_conventions(attributes: bytes) -> bytes:
    """Build attributes of ARM that say that no function takes a float from others or gives one: what is linked with
    objects of either convention.

    The section is ``A``, the length and name of the vendor's part ("aeabi"), tag 1 (of the file) with its length, and
    pairs of a tag and a value.
    """
    head = 1 + 4 + len(b"aeabi\0")
    if attributes[:1] != b"A" or attributes[5:head] != b"aeabi\0" or attributes[head] != 1:
        raise ValueError("the build attributes of an object are not as expected")
    more = bytes((_TAG_ABI_VFP_ARGS, _COMPATIBLE_WITH_BOTH))
    if attributes.endswith(more):
        return attributes  # it says so already
    (vendor,) = struct.unpack_from("<I", attributes, 1)
    (file,) = struct.unpack_from("<I", attributes, head + 1)
    if vendor + 1 != len(attributes) or head + file != len(attributes):
        raise ValueError("the build attributes of an object have more than one part")
    return b"".join(
        (
            b"A",
            struct.pack("<I", vendor + len(more)),
            attributes[5 : head + 1],
            struct.pack("<I", file + len(more)),
            attributes[head + 5 :],
            more,
        )
    )
