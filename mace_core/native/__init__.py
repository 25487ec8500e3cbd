"""Native code as a service: generated code in, checked and cached function addresses out; plans and a thread pool.

Public, for every provider whose device runs generated code (docs/native.md), with a version of its own:
`SERVICE_VERSION`.  Nothing else is imported here: llvmlite is loaded by the first module that needs it, numba only when
a kernel written for it is not in the cache.  What kernels compute is the providers' business, not this package's.

* `mace_core.native.machine`: threads, processors, and what identifies code to the caches.
* `mace_core.native.target`: the processor that code is generated for.
* `mace_core.native.source`, `mace_core.native.kernel`: `KernelSource`, and `load_kernels`.
* `mace_core.native.kernel_words`: names for the argument words of kernels.
* `mace_core.native.numba_kernel`, `mace_core.native.numba_prelude`: kernels written in Python.
* `mace_core.native.poll_ir`: how a kernel that takes long finds out that it is to stop.
* `mace_core.native.plan`, `mace_core.native.pool`: many kernels in one native call, over many threads.
* `mace_core.native.program`, `mace_core.native.named_targets`: what is written into a library for another processor.
* `mace_core.native.peak`: the fastest that this machine can multiply and add.
* `mace_core.native.compiler`, `mace_core.native.errors`: LLVM IR to object code, and what can go wrong.
"""

SERVICE_VERSION = "1.2"
"""Of the modules named above: a second part that grows adds names, a first part that grows may change them."""
