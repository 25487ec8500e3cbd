"""The apu provider under the conformance kit, on the stand-in for its library, in float16."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from mace_apu.backend import ApuBackend

from mace_core.provider import Backend, ExecutionProvider
from mace_core.provider.registry import default_registry
from mace_core.testing import Declaration, ProviderConformance

FLOAT = ["float32"]

FLOAT_OPERATORS = (
    *("Relu", "Sigmoid", "Tanh", "Exp", "Neg", "Abs", "Floor", "Ceil", "LeakyRelu", "Elu", "HardSigmoid", "HardSwish"),
    *("Reciprocal", "Identity", "Sqrt", "Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Equal", "Less", "Greater"),
    *("Clip", "PRelu", "Cast", "MatMul", "Gemm", "Conv", "ConvTranspose", "MaxPool", "AveragePool"),
    *("GlobalAveragePool", "GlobalMaxPool", "Resize", "Softmax", "BatchNormalization", "InstanceNormalization"),
    *("LayerNormalization", "Reshape", "Transpose", "Concat", "Split", "Slice", "Gather", "Pad", "Expand", "Squeeze"),
    *(
        "Log",
        "LogSoftmax",
        "Softplus",
        "Sign",
        "Round",
        "Softsign",
        "Unsqueeze",
        "Flatten",
        "Tile",
        "DepthToSpace",
        "ReduceSum",
        "ReduceMean",
        "ReduceMax",
        "ArgMax",
    ),
)


def live_objects(backend: Backend) -> int:
    assert isinstance(backend, ApuBackend)
    return backend.live_objects


class TestStandIn(ProviderConformance):
    # every form of every operator
    test_every_form_of_an_operator_is_right_or_declined = pytest.mark.full(
        ProviderConformance.test_every_form_of_an_operator_is_right_or_declined
    )
    declaration = Declaration(
        provider="apu",
        device="stand-in",
        operators={**dict.fromkeys(FLOAT_OPERATORS, FLOAT), "Where": ["bool"]},
        declines={
            "Relu empty": "Neuron is given no empty tensors",
            "Resize linear": "Neuron takes other elements where the factor gives no whole size",
            "Pad reflect": "Neuron pads with a constant only",
        },
        tolerance=1e-2,
        serializes=True,
        streams=True,
        interruptible=False,  # a whole network is one call of the library
        memory_in_use=live_objects,
    )

    @pytest.fixture(scope="class")
    @classmethod
    def provider(cls, stand_in_folder: Path) -> Iterator[ExecutionProvider]:
        """The provider, which finds the stand-in."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MACE_NEURON_LIB_DIR", str(stand_in_folder))
            yield default_registry().provider("apu")
