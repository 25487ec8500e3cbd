"""Generators of LLVM IR: pieces kernels are put together from.

A generator returns a `KernelSource`; llvmlite is imported only when one has to be built.
"""
