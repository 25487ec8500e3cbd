"""The version of the plugin contract."""

from __future__ import annotations

from typing import NamedTuple


class ApiVersion(NamedTuple):
    """A provider built for (major, minor) works with a core of the same major and the same or a later minor."""

    major: int
    minor: int

    def accepts(self, built_for: ApiVersion) -> bool:
        """Whether a core of this version can run a provider built for ``built_for``."""
        return built_for.major == self.major and built_for.minor <= self.minor

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"


API_VERSION = ApiVersion(1, 3)
"""The version of the contract that this core implements."""
