"""What can go wrong when a shared library is made."""

from __future__ import annotations

from mace_core.errors import MaceError


class LinkerMissingError(MaceError):
    """No linker for the target was found; the object and the static library do not need one."""


class LinkError(MaceError):
    """A linker failed, or what it made would not be loaded or would compute nonsense."""
