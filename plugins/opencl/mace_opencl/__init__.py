"""OpenCL execution provider: kernels are generated as OpenCL C and queued by one native call per run."""

from mace_opencl.version import VERSION as __version__

__all__ = ["__version__"]
