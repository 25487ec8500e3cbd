"""The ACME provider under the conformance kit."""

from acme_npu.backend import AcmeBackend

from mace_core.provider import Backend
from mace_core.testing import Declaration, ProviderConformance

FLOAT = ["float32"]


def memory_in_use(backend: Backend) -> int:
    assert isinstance(backend, AcmeBackend)
    return backend.memory.used_bytes


class TestAcme(ProviderConformance):
    declaration = Declaration(
        provider="acme",
        device="sim0",
        operators=dict.fromkeys(("Add", "Sub", "Mul", "Relu", "Sigmoid", "MatMul"), FLOAT),
        declines={
            "MatMul batched": "the second operand is not constant",
            "MatMul broadcast batch": "the second operand is not constant",
        },
        tolerance=1e-6,
        serializes=True,
        streams=True,
        memory_in_use=memory_in_use,
    )
