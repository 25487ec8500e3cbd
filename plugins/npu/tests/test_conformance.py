"""The npu provider under the conformance kit, on OpenVINO's CPU as a stand-in."""

import pytest
from mace_npu.openvino import discovery

from mace_core.provider import Backend, Device, ExecutionProvider
from mace_core.testing import Declaration, ProviderConformance
from mace_core.testing.kit.blobs import FORMS_OF_AN_OPERATOR

pytestmark = pytest.mark.skipif(discovery.package_folder() is None, reason="pip install mace-npu[openvino]")


class TestOpenVino(ProviderConformance):
    # three thousand compilations
    test_every_form_of_an_operator_is_right_or_declined = pytest.mark.full(
        ProviderConformance.test_every_form_of_an_operator_is_right_or_declined
    )
    declaration = Declaration(
        provider="npu",
        device="openvino-cpu",
        declines={
            "Resize linear": "the factors give no whole size",
            "Relu empty": "OpenVINO has no empty tensors",
            "Add int64": "64-bit integers become 32-bit ones",
            "Sub int64": "64-bit integers become 32-bit ones",
            "Mul int64": "64-bit integers become 32-bit ones",
        },
        serializes=True,
        streams=True,
    )

    # each form is compiled by a library that takes a quarter of a second
    @pytest.mark.parametrize("forms", [0, pytest.param(FORMS_OF_AN_OPERATOR, marks=pytest.mark.full)])
    def test_blobs_restore_every_subgraph_with_its_own_constants(  # type: ignore[override]
        self, backend: Backend, provider: ExecutionProvider, device: Device, forms: int
    ) -> None:
        self.check_blobs_of_constants(backend, provider, device, forms)
