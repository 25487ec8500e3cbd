"""The OpenCL provider under the conformance kit, on the first CPU runtime or GPU there is."""

import pytest
from mace_opencl.backend import OpenClBackend

from mace_core.provider import Backend, Device, ExecutionProvider
from mace_core.testing import Declaration, ProviderConformance
from mace_core.testing.kit.blobs import FORMS_OF_AN_OPERATOR


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

    # each form is a program of its own for the runtime's compiler
    @pytest.mark.parametrize("forms", [0, pytest.param(FORMS_OF_AN_OPERATOR, marks=pytest.mark.full)])
    def test_blobs_restore_every_subgraph_with_its_own_constants(  # type: ignore[override]
        self, backend: Backend, provider: ExecutionProvider, device: Device, forms: int
    ) -> None:
        self.check_blobs_of_constants(backend, provider, device, forms)
