"""The Hexagon provider under the conformance kit, on the emulated HTP v75 in float16."""

import pytest
from mace_hexagon.backend import HexagonBackend

from mace_core.provider import Backend, Device, ExecutionProvider
from mace_core.testing import Declaration, ProviderConformance
from mace_core.testing.kit.blobs import FORMS_OF_AN_OPERATOR

FLOAT = ["float32"]

FLOAT_OPERATORS = (
    *("Relu", "Sigmoid", "Tanh", "Exp", "Neg", "Abs", "Floor", "Ceil", "LeakyRelu", "Elu", "HardSigmoid", "HardSwish"),
    *("Softplus", "Sin", "Cos", "Round", "Sign", "Reciprocal", "Gelu", "Identity", "Sqrt", "Log", "Add", "Sub", "Mul"),
    *("Div", "Pow", "Max", "Min", "Equal", "Less", "Greater", "Clip", "PRelu", "Cast", "MatMul", "Gemm", "Conv"),
    *("ConvTranspose", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "Resize", "Softmax"),
    *("LogSoftmax", "BatchNormalization", "InstanceNormalization", "LayerNormalization", "Reshape", "Transpose"),
    *("Concat", "Split", "Slice", "Gather", "Pad", "Expand", "Squeeze", "Unsqueeze", "Flatten", "Tile"),
    *("DepthToSpace", "ReduceSum", "ReduceMean", "ReduceMax", "ArgMax", "TopK", "Erf", "LSTM"),
)


def live_contexts(backend: Backend) -> int:
    assert isinstance(backend, HexagonBackend)
    return backend.live_contexts


class TestHexagon(ProviderConformance):
    declaration = Declaration(
        provider="hexagon",
        device="v75",
        operators={
            **dict.fromkeys(FLOAT_OPERATORS, FLOAT),
            "Add": [*FLOAT, "int64"],
            "Sub": [*FLOAT, "int64"],
            "Where": ["bool"],
        },
        declines={
            "Relu empty": "QNN has no empty tensors",
            "Unsqueeze": "six dimensions, the HTP takes five",
        },
        tolerance=1e-2,
        serializes=True,
        streams=True,
        interruptible=False,  # a whole graph is one call of the library
        memory_in_use=live_contexts,
    )

    @pytest.mark.parametrize("forms", [0, pytest.param(FORMS_OF_AN_OPERATOR, marks=pytest.mark.full)])
    def test_blobs_restore_every_subgraph_with_its_own_constants(  # type: ignore[override]
        self, backend: Backend, provider: ExecutionProvider, device: Device, forms: int
    ) -> None:
        self.check_blobs_of_constants(backend, provider, device, forms)
