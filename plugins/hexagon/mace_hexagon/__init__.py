"""Qualcomm Hexagon execution provider: looks for the QNN libraries.  It can not run anything in this version."""

from mace_hexagon.version import VERSION as __version__

__all__ = ["__version__"]
