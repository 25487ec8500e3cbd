"""OpenCL execution provider: looks for the loader and the drivers.  It can not run anything in this version."""

from mace_opencl.version import VERSION as __version__

__all__ = ["__version__"]
