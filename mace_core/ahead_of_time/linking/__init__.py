"""From objects to a shared library, by a linker that is found on this machine.

The library asks for no library of its own, the C library of the program that loads it included: the same file serves
glibc, musl and Android.
"""

from mace_core.ahead_of_time.linking.checks import LIBC, LibraryFacts, read_library
from mace_core.ahead_of_time.linking.errors import LinkerMissingError, LinkError
from mace_core.ahead_of_time.linking.linkers import Linker, Machine, find_linker, machine_of
from mace_core.ahead_of_time.linking.shared import LinkedLibrary, link_shared

__all__ = [
    "LIBC",
    "LibraryFacts",
    "LinkError",
    "LinkedLibrary",
    "Linker",
    "LinkerMissingError",
    "Machine",
    "find_linker",
    "link_shared",
    "machine_of",
    "read_library",
]
