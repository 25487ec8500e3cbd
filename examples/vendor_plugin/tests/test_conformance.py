"""The ACME provider under the conformance kit."""

from dataclasses import replace

from acme_npu.backend import AcmeBackend

from mace_core.provider import Backend
from mace_core.testing import Declaration, ProviderConformance
from mace_core.testing.kit.buckets import BucketChecks

OPERATORS = (
    *("Add", "Sub", "Mul", "Relu", "Sigmoid", "LeakyRelu", "Clip", "MatMul", "Gemm", "Conv", "MaxPool", "AveragePool"),
    *("GlobalAveragePool", "Softmax", "BatchNormalization", "Reshape", "Flatten", "Transpose", "Concat", "Pad"),
    *("ReduceSum", "ReduceMean", "ReduceMax", "Resize", "QuantizeLinear"),
)


def memory_in_use(backend: Backend) -> int:
    assert isinstance(backend, AcmeBackend)
    return backend.memory.used_bytes


class TestAcme(ProviderConformance):
    declaration = Declaration(
        provider="acme",
        device="sim0",
        operators={**dict.fromkeys(OPERATORS, ("float32",)), "DequantizeLinear": ("int8", "uint8")},
        declines={
            "MatMul batched": "the second operand is not constant",
            "MatMul broadcast batch": "the second operand is not constant",
            "Resize linear": "the unit copies elements alone",
        },
        tolerance=1e-6,
        serializes=True,
        streams=True,
        memory_in_use=memory_in_use,
    )


class TestAcmeInBuckets(BucketChecks):
    """As before, with sizes that are padded."""

    declaration = replace(TestAcme.declaration, options={"largest_bucket": 64})
