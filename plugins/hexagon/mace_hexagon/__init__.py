"""Qualcomm Hexagon execution provider, through the C API of Qualcomm's QNN libraries."""

from mace_hexagon.version import VERSION as __version__

__all__ = ["__version__"]
