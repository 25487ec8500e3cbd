"""CPU execution provider: kernels generated as LLVM vector code, and kernels compiled by numba."""

from mace_cpu.version import VERSION as __version__

__all__ = ["__version__"]
