"""Native code as a service: generated code in, checked and cached function addresses out; plans and a thread pool.

Nothing is imported here: llvmlite is loaded by the first module that needs it, numba only when a kernel written for it
is not in the cache.  What kernels compute is the providers' business, not this package's.

* `mace_core.native.target`: the processor that code is generated for.
* `mace_core.native.kernel`: `KernelSource` and `load_kernels`.
* `mace_core.native.numba_kernel`, `mace_core.native.numba_prelude`: kernels written in Python.
* `mace_core.native.plan`, `mace_core.native.pool`: many kernels in one native call, over many threads.
"""
