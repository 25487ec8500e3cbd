"""The OpenCL provider under the conformance kit, on the first CPU runtime or GPU there is."""

from mace_opencl.backend import OpenClBackend

from mace_core.provider import Backend
from mace_core.testing import Declaration, ProviderConformance


def memory_in_use(backend: Backend) -> int:
    assert isinstance(backend, OpenClBackend)
    return backend.memory.used_bytes


class TestOpenCl(ProviderConformance):
    declaration = Declaration(
        provider="opencl",
        device="0",
        operators=None,
        declines={
            "LSTM one direction": "there are no recurrent kernels",
            "ArgMax": "there is no kernel that gives positions",
            "TopK": "there is no sorting kernel",
        },
        tolerance=1e-6,
        serializes=True,
        streams=True,
        interruptible=False,  # all kernels of a run are queued at once, and a queue cannot be emptied
        memory_in_use=memory_in_use,
    )
