"""What a shared library says of itself, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import ARMAttributesSection, SymbolTableSection

from mace_core.ahead_of_time.linking.errors import LinkError
from mace_core.ahead_of_time.linking.linkers import Machine
from mace_core.native.loader import ALLOWED_IMPORTS

LIBC = (
    frozenset(
        (
            *("abort", "clock_gettime", "free", "getauxval", "getpid", "madvise", "malloc", "nanosleep"),
            *("pthread_create", "pthread_detach", "pthread_join", "pthread_self", "sched_getaffinity", "sched_yield"),
            *("posix_memalign", "snprintf", "strcmp", "strlen", "syscall", "sysconf"),
        )
    )
    | ALLOWED_IMPORTS
    | {f"__aeabi_{name}{width}" for name in ("memcpy", "memmove", "memset", "memclr") for width in ("", 4, 8)}
)
"""Functions that the C library of every system has, its mathematics included, and that a library may ask for."""

EITHER_FLOAT_CONVENTION = 3
"""``Tag_ABI_VFP_args``: no function that others call takes or returns a float."""

_EXECUTABLE, _WRITABLE = 1, 2
_ARM_FLOAT_FLAGS = 0x600
_RISCV_FLOAT_MASK, _RISCV_FLOAT_DOUBLE = 0x6, 0x4
_COMPLAINTS_TOLD = 3


@dataclass(frozen=True)
class LibraryFacts:
    """A shared library.

    Attributes:
        machine, bits: as `Machine` has them.
        flags: of the ELF header.
        soname: "" where it has none.
        needed: libraries that it asks for.
        exported, undefined: symbols, sorted.
        has_text_relocations: code would be written to when it is loaded.
        has_writable_code: a segment is both, or the stack is executable.
        alignment: the least of its segments.
        float_arguments: ``Tag_ABI_VFP_args`` of 32-bit ARM; None elsewhere.
    """

    machine: str
    bits: int
    flags: int
    soname: str
    needed: tuple[str, ...]
    exported: tuple[str, ...]
    undefined: tuple[str, ...]
    has_text_relocations: bool
    has_writable_code: bool
    alignment: int
    float_arguments: int | None

    def complaints(self, machine: Machine, exports: Sequence[str], needed: Sequence[str] = ()) -> Iterator[str]:
        """What is wrong with it, one after the other.

        Args:
            machine: that it should be for.
            exports: the symbols that it should have.
            needed: the libraries that it should ask for.
        """
        if (self.machine, self.bits) != (machine.name, machine.bits):
            yield f"it is for {self.machine} ({self.bits} bits), not for {machine.name} ({machine.bits} bits)"
        if self.exported != tuple(sorted(exports)):
            yield f"it exports {_listed(self.exported)}, not {_listed(sorted(exports))}"
        if unknown := [name for name in self.undefined if name not in LIBC]:
            yield f"it needs {_listed(unknown)}, which the C library does not have everywhere"
        if self.needed != tuple(needed):
            yield f"it asks for {_listed(self.needed) or 'no library'}, not for {_listed(needed) or 'none'}"
        if self.has_text_relocations:
            yield "its code would be changed when it is loaded (text relocations)"
        if self.has_writable_code:
            yield "it has memory that can be written and executed"
        if self.alignment < machine.page_bytes:
            yield f"its segments are aligned to {self.alignment} bytes, less than a page of {machine.page_bytes}"
        if machine.name == "ARM" and self.float_arguments != EITHER_FLOAT_CONVENTION:
            yield (
                f"it says that it takes floats by one convention (Tag_ABI_VFP_args is {self.float_arguments}), and "
                "programs of the other one would compute nonsense"
            )
        if machine.name == "RISC-V" and self.flags & _RISCV_FLOAT_MASK != _RISCV_FLOAT_DOUBLE:
            yield "it is not for the convention lp64d, and programs would not link it"


def read_library(path: Path) -> LibraryFacts:
    """Read what a shared library says of itself.

    Raises:
        LinkError: if it is none.
    """
    try:
        with path.open("rb") as file:
            return _read(ELFFile(file))
    except (ELFError, UnicodeDecodeError) as error:
        raise LinkError(f"'{path.name}' is no shared library: {error or 'it is damaged'}") from None


def clear_float_flags(path: Path, machine: Machine) -> None:
    """Take from the header of a 32-bit ARM library which convention for floats it follows, where it follows none.

    GNU ld writes "soft" where attributes say "either", and a system with the other convention would refuse it.
    """
    if machine.name != "ARM" or read_library(path).float_arguments != EITHER_FLOAT_CONVENTION:
        return
    with path.open("r+b") as file:
        flags = ELFFile(file).header["e_flags"] & ~_ARM_FLOAT_FLAGS
        file.seek(36)  # e_flags of a 32-bit header
        file.write(flags.to_bytes(4, "little"))


def _read(elf: ELFFile) -> LibraryFacts:
    dynamic = next((section for section in elf.iter_sections() if isinstance(section, DynamicSection)), None)
    symbols = elf.get_section_by_name(".dynsym")
    if dynamic is None or not isinstance(symbols, SymbolTableSection):
        raise ELFError("it has no dynamic section")
    tags = list(dynamic.iter_tags())
    named = [symbol for symbol in symbols.iter_symbols() if symbol.name and symbol["st_info"]["bind"] != "STB_LOCAL"]
    undefined = {symbol.name for symbol in named if symbol["st_shndx"] == "SHN_UNDEF"}
    segments = list(elf.iter_segments())
    loaded = [segment for segment in segments if segment["p_type"] == "PT_LOAD"]
    dangerous = [segment for segment in segments if segment["p_type"] in ("PT_LOAD", "PT_GNU_STACK")]
    both = _EXECUTABLE | _WRITABLE
    return LibraryFacts(
        machine=elf.get_machine_arch(),
        bits=elf.elfclass,
        flags=elf.header["e_flags"],
        soname=next((str(getattr(tag, "soname", "")) for tag in tags if tag.entry.d_tag == "DT_SONAME"), ""),
        needed=tuple(str(getattr(tag, "needed", "")) for tag in tags if tag.entry.d_tag == "DT_NEEDED"),
        exported=tuple(sorted({symbol.name for symbol in named} - undefined)),
        undefined=tuple(sorted(undefined)),
        has_text_relocations=any(
            tag.entry.d_tag == "DT_TEXTREL" or (tag.entry.d_tag == "DT_FLAGS" and tag.entry.d_val & 4) for tag in tags
        ),
        has_writable_code=any(segment["p_flags"] & both == both for segment in dangerous),
        alignment=min((segment["p_align"] for segment in loaded), default=0),
        float_arguments=_float_arguments(elf) if elf.get_machine_arch() == "ARM" else None,
    )


def _float_arguments(elf: ELFFile) -> int:
    """``Tag_ABI_VFP_args``; 0, the base convention, where nothing is said."""
    for section in elf.iter_sections():
        if isinstance(section, ARMAttributesSection):
            for part in section.iter_subsections():
                for group in part.iter_subsubsections():
                    for attribute in group.iter_attributes("TAG_ABI_VFP_ARGS"):
                        return int(attribute.value)
    return 0


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:_COMPLAINTS_TOLD])
    more = len(names) - _COMPLAINTS_TOLD
    return (shown + (f" and {more} more" if more > 0 else "")) or "nothing"
