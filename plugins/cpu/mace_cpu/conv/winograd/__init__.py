"""Winograd's method for 3x3 kernels of stride 1."""
