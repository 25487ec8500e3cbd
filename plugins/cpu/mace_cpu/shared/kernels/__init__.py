"""Kernels written for numba: imported only when one of them must be compiled."""
