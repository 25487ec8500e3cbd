"""Generators of LLVM IR: pieces kernels are put together from.  Nothing here runs unless a kernel must be built."""

A generator returns a `KernelSource`; llvmlite is imported only when one has to be built.
"""
