"""Kernels as OpenCL C text.  Sizes are arguments, so that one kernel serves every shape."""
