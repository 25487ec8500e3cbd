"""Errors of native code generation."""

from __future__ import annotations

from mace_core.errors import ProviderBugError


class KernelError(ProviderBugError):
    """A kernel cannot be built, or its object code is not fit to load.  The message names the kernel."""
